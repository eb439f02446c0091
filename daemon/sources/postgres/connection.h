// A non-blocking libpq connection: connects, runs one command at a time, and carries a COPY BOTH
// stream. The only file that holds a PGconn. All calls from one thread; nothing blocks: libpq would look host
// names up by itself and wait, so they are looked up before (name_lookup.h).
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/net/name_lookup.h"
#include "daemon/sources/postgres/conninfo.h"
#include "daemon/sources/postgres/stream_wire.h"
#include "daemon/base/waiting.h"

struct pg_conn;

namespace evictd {

// Why something failed, before anybody decided what that means (failure.h).
struct PostgresFailure {
  std::string sqlstate;  // empty when the server did not say
  std::string text;      // one line, scrubbed
  bool needs_password = false;
  std::string hint = {};  // of where the password is asked for

  // For whoever has one line: "text (hint)".
  std::string told() const { return hint.empty() ? text : text + " (" + hint + ")"; }
};

// What a command ended with: rows (NULL is an empty text), or the failure; the connection lives
// on.
struct PostgresAnswer {
  std::optional<PostgresFailure> failure;
  std::vector<std::vector<std::string>> rows;
  std::vector<std::string> columns;                      // names
  std::set<std::pair<std::size_t, std::size_t>> nulls;  // row and column of each NULL
  // Only of what was sent with a bound:
  std::vector<std::uint32_t> types;  // of the columns
  bool is_too_much = false;          // the rows passed the bound, and are not here; the connection is lost
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

  using Answer = PostgresAnswer;

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
  // The same. Of an answer no more than about `bytes_max` is ever held.
  void send(const std::string& command, std::size_t bytes_max);
  // REQUIRES: kIdle. Prepares one statement: several at once are refused, whatever is written in it.
  void send_prepare(const std::string& name, const std::string& statement);
  // REQUIRES: kIdle. A command that begins a stream; from here on the frames are read by ourselves (stream_wire.h), and
  // nothing but the stream can be done with the connection.
  void begin_stream(const std::string& command);
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
  // Bytes of the stream have come since the last call, be it of a message that is not whole yet.
  bool take_heard() { return wire_ && wire_->take_heard(); }
  // Data may sit in TLS buffers, where poll() does not see it.
  bool uses_tls() const;

  // "18" -> 180000; REQUIRES: connected.
  int server_version() const;
  // The process that serves us; 0 when there is none.
  int backend_pid() const;
  // Host, address and port that were really connected to, put into `conninfo`.
  void pin_server(Conninfo& conninfo) const;

 private:
  void poll_credential(Now now);
  void look_up(Now now);
  void poll_lookups(Now now);
  void begin(Now now);
  void poll_connecting(Now now);
  void read_answer();
  bool keep_bounded(const void* result);
  void flush();
  void read_stream_answer();
  void lose_wire();
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
  std::unique_ptr<CredentialLookup> asking_;  // for the password, before anything else
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
  bool stream_ended_ = false;  // by us: the server still says that it has let go of the slot
  std::optional<StreamWire> wire_;  // of a stream
};

}  // namespace evictd
