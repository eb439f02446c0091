// The replication stream: one connection that speaks PostgreSQL's streaming replication protocol,
// from connecting to COPY BOTH, as a machine of explicit states. It knows frames and positions, not
// rows.
//
// Rests on: PostgreSQL manual, "Streaming Replication Protocol". Positions it may tell the server:
// never beyond what this connection received, nor beyond what the server said of its own end on another
// connection, because the server believes and keeps a position from the future.
#pragma once

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "daemon/sources/postgres/connection.h"
#include "daemon/sources/postgres/lsn.h"

namespace evictd {

// What IDENTIFY_SYSTEM says.
struct SystemIdentity {
  std::string system;
  std::string timeline;
  Lsn flushed;
};

struct StreamMessage {
  bool is_keepalive = false;
  Lsn start;                 // of a data message; 0 for relation messages
  SystemTime sent;           // by the server's clock
  Lsn server_end;            // of a keepalive: everything up to here was sent
  std::string_view payload;  // pgoutput's bytes, valid until the next read
};

class ReplicationStream {
 public:
  enum class State {
    kClosed,
    kConnecting,
    kIdentifying,
    kReady,
    kCreatingSlot,
    kStarting,
    kStreaming,
    kEnding
  };

  explicit ReplicationStream(NameLookup::Resolver resolver = NameLookup::system_resolver) : connection_(std::move(resolver)) {}

  void open(const Conninfo& conninfo, Now now);
  void close();
  State state() const { return state_; }

  void step(Now now);
  void wait_for(Waiting& waiting, bool want_data) const;

  // The last thing that failed: a command (the state is kReady again) or the connection (kClosed).
  // Taken once.
  std::optional<PostgresFailure> take_failure();

  // What state() >= kReady knows.
  const SystemIdentity& identity() const { return identity_; }
  const PostgresConnection& connection() const { return connection_; }

  // REQUIRES: kReady. kReady again when the slot exists. Can take as long as the oldest open
  // transaction.
  void create_slot(const std::string& slot, bool is_temporary);
  // Where the slot just created begins.
  Lsn created_at() const { return created_at_; }

  struct StartOptions {
    std::string slot;
    std::string publication;
    bool with_messages = false;  // logical messages of everybody, ours among them; PostgreSQL 14
    Lsn confirmed;               // what the slot has confirmed: streaming goes on from there
    std::chrono::milliseconds status_interval{10'000};
    std::chrono::milliseconds silence_max{20'000};  // a server that is asked for a sign of life gives one sooner, or is gone
  };
  // How long a server with this `wal_sender_timeout` may say nothing although it lives.
  static std::chrono::milliseconds silence_max_of(std::chrono::milliseconds wal_sender_timeout);
  // REQUIRES: kReady. kStreaming when the server agreed.
  void start_streaming(const StartOptions& options, Now now);

  // The next message. Empty: none now, or the stream ended (state kClosed, take_failure()).
  // REQUIRES: kStreaming. A malformed frame ends the stream with SQLSTATE 08P01.
  std::optional<StreamMessage> read(bool may_receive);

  // The commit or keepalive whose end is `end` has been taken over by the caller.
  void advance_received(Lsn end);
  // The server's WAL reaches at least to `end`, as said elsewhere than in this stream.
  void prove(Lsn end);
  // The next status asks for a keepalive in return.
  void ask_for_keepalive() { wants_keepalive_ = true; }
  // Everything up to `position` is finished.
  void acknowledge(Lsn position);
  // Something was handed out that is not acknowledged yet.
  Lsn received() const { return received_; }
  bool has_unacknowledged() const { return acknowledged_ < received_; }
  // Sends a status update when one is due. `is_reading`: data is wanted, so silence means
  // something.
  void keep_alive(Now now, bool is_reading);

  // Since when the server has said nothing although it was asked; none: it answers, or nothing was asked of it.
  std::optional<SteadyTime> silent_since() const {
    return state_ == State::kStreaming && asked_for_reply_ ? std::optional(last_heard_) : std::nullopt;
  }

  // Tells the server the last position and that we are leaving. kClosed once it has answered.
  void end(Now now);

  Lsn acknowledged() const { return acknowledged_; }

 private:
  void finish_identify(const PostgresConnection::Answer& answer);
  Lsn may_acknowledge() const { return std::min({acknowledged_, received_, proven_}); }
  void send_status(Now now, bool request_reply);
  void fail_with(PostgresFailure failure);

  PostgresConnection connection_;
  State state_ = State::kClosed;
  std::optional<PostgresFailure> failure_;
  SystemIdentity identity_;
  Lsn created_at_;
  std::chrono::milliseconds status_interval_{10'000};
  std::chrono::milliseconds silence_max_{20'000};

  Lsn received_;      // everything before this has been handed out
  Lsn acknowledged_;  // what the caller has finished
  Lsn proven_;        // see prove()
  Lsn sent_;          // what the server was told last
  SteadyTime last_status_{};
  SteadyTime last_heard_{};
  SteadyTime end_deadline_{};
  SteadyTime answer_deadline_{};  // of kIdentifying and kStarting
  bool heard_ = false;            // since the last keep_alive()
  bool wants_keepalive_ = false;  // see ask_for_keepalive()
  bool reply_wanted_ = false;     // the server asked
  bool asked_for_reply_ = false;  // we asked, and nothing has come yet
  bool was_reading_ = false;
};

}  // namespace evictd
