// A non-blocking libpq connection: connects, runs one command at a time, and carries a COPY BOTH
// stream. The only file that holds a PGconn. All calls from one thread; nothing blocks: libpq would look host
// names up by itself and wait, so they are looked up before (name_lookup.h).
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/net/name_lookup.h"
#include "daemon/sources/postgres/conninfo.h"
#include "daemon/base/waiting.h"

struct pg_conn;

namespace evictd {

// Why something failed, before anybody decided what that means (failure.h).
struct PostgresFailure {
  std::string sqlstate;  // empty when the server did not say
  std::string text;      // one line, scrubbed
  bool needs_password = false;
};

class PostgresConnection {
 public:
  enum class State {
    kClosed,  // never opened, closed, or failed: see failure()
    kConnecting,
    kIdle,       // ready for a command
    kBusy,       // a command is under way
    kStreaming,  // COPY BOTH
  };

  // What a command ended with: rows (NULL is an empty text), or the failure; the connection lives
  // on.
  struct Answer {
    std::optional<PostgresFailure> failure;
    std::vector<std::vector<std::string>> rows;
    // Only of send_prepared() with a bound:
    std::vector<std::uint32_t> types;         // of the columns
    std::vector<std::vector<bool>> nulls;     // by row
    bool is_too_much = false;                 // the rows passed the bound, and are not here; the connection is lost
  };

  explicit PostgresConnection(NameLookup::Resolver resolver = NameLookup::system_resolver);
  ~PostgresConnection();
  PostgresConnection(const PostgresConnection&) = delete;
  PostgresConnection& operator=(const PostgresConnection&) = delete;

  void open(const Conninfo& conninfo, Now now);
  void close();

  State state() const { return state_; }
  // Why the connection was lost or not made; none after open() or a close() of ours.
  const std::optional<PostgresFailure>& failure() const { return failure_; }

  // Goes on with connecting or with the command under way, and sends what is waiting to be sent.
  void step(Now now);
  // Descriptor and deadline. `want_data` false leaves a stream's data in the socket.
  void wait_for(Waiting& waiting, bool want_data) const;

  // REQUIRES: kIdle. The answer is taken once step() has brought it.
  void send(const std::string& command);
  // REQUIRES: kIdle. Runs a statement prepared with send("prepare <name> as ...").
  void send_prepared(const std::string& name);
  // The same with parameters, as texts. Of an answer no more than about `bytes_max` is ever held.
  void send_prepared(const std::string& name, const std::vector<std::string>& parameters, std::size_t bytes_max);
  std::optional<Answer> take_answer();

  // The next message of the stream, valid until the next call. Empty: none yet, or the stream ended
  // (the state is then kClosed). `may_receive` false looks only at what has already been read from
  // the socket.
  std::optional<std::string_view> read_stream(bool may_receive);
  // Queues one message. False when the connection is gone.
  bool write_stream(std::string_view message);
  // Ends our side of the stream; the server's last words are read by read_stream().
  void end_stream();
  // Everything queued has reached the socket.
  bool is_flushed() const { return !wants_write_; }
  // Data may sit in TLS buffers, where poll() does not see it.
  bool uses_tls() const;

  // "18" -> 180000; REQUIRES: connected.
  int server_version() const;
  // The process that serves us; 0 when there is none.
  int backend_pid() const;
  // Host, address and port that were really connected to, put into `conninfo`.
  void pin_server(Conninfo& conninfo) const;

 private:
  void poll_lookups(Now now);
  void begin(Now now);
  void poll_connecting(Now now);
  void read_answer();
  bool keep_bounded(const void* result);
  void flush();
  void lose(std::string_view sqlstate, std::string_view text);
  void lose_with_last_error();
  PostgresFailure failure_of(const void* result) const;
  void hear_notice(const void* result);

  struct Closer {
    void operator()(pg_conn* connection) const;
  };
  std::unique_ptr<pg_conn, Closer> connection_;
  Conninfo conninfo_;
  std::string server_;  // as it was given, for messages
  NameLookup::Resolver resolver_;
  std::vector<NameLookup> lookups_;  // of the hosts' names, before libpq begins
  State state_ = State::kClosed;
  std::optional<PostgresFailure> failure_;
  // An error that arrived while no command was under way: why the server is about to close.
  std::optional<PostgresFailure> goodbye_;
  std::optional<Answer> answer_;
  std::size_t answer_bytes_ = 0;
  std::size_t answer_bytes_max_ = 0;  // of the command under way; 0: it has no bound
  SteadyTime connect_deadline_{};
  SteadyTime idle_read_at_{};  // when an idle connection is listened to next
  short connect_events_ = 0;
  bool wants_write_ = false;
  bool copy_ended_ = false;  // the server has ended the stream, and not yet said everything
  char* message_ = nullptr;  // owned by libpq's allocator
};

}  // namespace evictd
