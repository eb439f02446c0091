// The state machine of one connection to Redis, without a socket: bytes in, bytes out. It signs in,
// looks at what it is talking to, makes sure that it may write, loads the scripts, and from then on
// matches each reply to its command by count. Any doubt is a SessionFailure, after which the
// connection must be closed and the session thrown away.
//
//   kAuthenticating -> kSelecting -> kNaming -> kInspecting -> kProbing -> kTiming -> kLoading
//   (each script; none where `needs_scripts` is false)
//     -> kAskingLibrary -> kLoadingLibrary (when it is missing or older) -> kReadingRecord ->
//     kReady
//   kTryingMulti and kTryingExec, where `needs_transactions` is true, come after kProbing.
//   kInspecting, kProbing -> kWaiting (loading, busy, cannot write) -> kInspecting
//
// One step is one command and its reply; only in kReady are commands pipelined.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>

#include "daemon/base/clock.h"
#include "daemon/sinks/redis/record_text.h"
#include "daemon/sinks/redis/resp.h"
#include "daemon/sinks/redis/scripts.h"
#include "daemon/sinks/redis/url.h"
#include "daemon/interface/sink.h"

namespace evictd {

// What INFO told, as far as we ask.
struct ServerInfo {
  std::string version;  // "7.0.15"
  std::string run_id;
  bool is_master = true;
  bool is_loading = false;
  bool is_cluster = false;
  std::uint64_t evicted_keys = 0;
  std::string maxmemory_policy;  // empty: it does not say
};
// nullopt when the text has no run_id: not Redis.
std::optional<ServerInfo> parse_server_info(std::string_view text);

struct SessionFailure {
  Error error;
  std::string_view error_class;  // see errors.h
  bool is_refusal = false;       // of what a receiver had sent: an order, the record
};
template <typename T>
using SessionResult = tl::expected<T, SessionFailure>;

enum class SessionState : std::uint8_t {
  kClosed,
  kAuthenticating,
  kSelecting,
  kNaming,
  kInspecting,
  kProbing,
  kTryingMulti,
  kTryingExec,
  kWaiting,
  kTiming,
  kLoading,
  kAskingLibrary,
  kLoadingLibrary,
  kReadingRecord,
  kReady,
};
// One or two words for /status.
std::string_view session_state_name(SessionState state);

// Whoever sent a command in kReady gets its reply.
class ReplyReceiver {
 public:
  virtual ~ReplyReceiver() = default;
  // False when the reply is not, as a whole, what the command replies: a doubt, see SessionFailure. Then nothing of it
  // may have been counted, and the command must not pass for done. Never an error reply.
  [[nodiscard]] virtual bool on_reply(std::uint64_t tag, Reply&& reply) = 0;
  // True when the error is one to live with: the receiver knows what to do. False: it is a SessionFailure, and the
  // command must not pass for done. `about` may be set to what the command was about, for the person who reads it.
  [[nodiscard]] virtual bool on_error(std::uint64_t tag, std::string_view text, std::string& about) = 0;
};

// What a connection is for.
enum class NodeRole : std::uint8_t {
  kAlone,     // the one server of a cache
  kShard,     // a master of a cluster: its record is not read here, and its probe lies in a slot of its own
  kObserver,  // any node of a cluster, asked for the topology and nothing else
};

class Session {
 public:
  // `address` must outlive the session.
  Session(const RedisAddress& address, std::string client_name, std::string record_key,
          std::chrono::milliseconds tombstone_ttl, bool needs_scripts = true, NodeRole role = NodeRole::kAlone,
          std::string probe_key = "evictd:probe", bool needs_transactions = false);

  // The connection is open.
  void begin(SteadyTime now);
  SessionResult<void> receive(std::string_view bytes, SteadyTime now);
  // A step that is due by time alone (kWaiting).
  void wake(SteadyTime now);

  SessionState state() const { return state_; }
  bool is_ready() const { return state_ == SessionState::kReady; }
  // kWaiting: what we wait for to end.
  const std::optional<SessionFailure>& waiting_for() const { return waiting_for_; }
  SteadyTime wake_due() const { return wake_due_; }

  // Valid from kReady on.
  const SinkConnected& connected() const { return connected_; }
  const ServerInfo& info() const { return info_; }
  void update_info(const ServerInfo& info) { info_ = info; }
  // The record was there and could not be read.
  const std::optional<Error>& record_problem() const { return record_problem_; }
  // The readers' functions are there: this version of them, or a newer one.
  bool has_library() const { return library_problem_.empty(); }
  // Why they are not: an error reply.
  const std::string& library_problem() const { return library_problem_; }
  // It is gone, or another one has its name (FUNCTION FLUSH, DELETE or LOAD by somebody else), or it could not be loaded before: asked
  // for, and loaded, beside whatever else goes on. REQUIRES: kReady.
  void look_for_library(SteadyTime now);
  // That may come to something: Redis has functions, and may run them for us.
  bool may_have_library() const { return !is_library_out_of_reach_; }

  // What is to be written to the socket; the owner takes bytes off the front, by drop_output().
  std::string& output() { return output_; }
  const std::string& output() const { return output_; }
  // How many bytes of it may be written by now, from the front. Redis works off what it has of a pipeline without a look at its other
  // clients, so it gets no more than a short burst of work ahead of its replies.
  std::size_t sendable() const;
  void drop_output(std::size_t bytes);
  // Announces the reply of a command just appended to output(). REQUIRES: kReady; `receiver` lives
  // until then.
  void expect(ReplyReceiver& receiver, std::uint64_t tag, SteadyTime now);
  // Appends SCRIPT LOAD and takes care of its reply: for a receiver that was told NOSCRIPT.
  void load_script(Script which, SteadyTime now);

  // Redis said something on this connection.
  bool has_heard() const { return reader_.bytes_fed() > 0; }

  std::size_t awaited() const { return expected_.size(); }
  // Since when we wait for the next reply, or for more of one that is long; nullopt when none is awaited.
  std::optional<SteadyTime> waiting_since() const;

 private:
  struct Expected {
    ReplyReceiver* receiver = nullptr;  // null: the session's own step
    std::uint64_t tag = 0;
    Script script = Script::kInvalidate;  // that load_script() loads
    std::uint64_t output_end = 0;         // of its command, counted since the connection was opened
    SessionState step = SessionState::kReady;  // of the session's own: which one
  };

  void enter(SessionState state, SteadyTime now);
  void send_own(std::initializer_list<std::string_view> arguments, SteadyTime now, Script loaded = Script::kInvalidate);
  void ask_for_library(SteadyTime now);
  void load_library(SteadyTime now);
  void end_with_library(std::string problem, SteadyTime now);
  SessionResult<void> take_own(const Expected& expected, const Reply& reply, SteadyTime now);
  SessionResult<void> take_library(const Expected& expected, const Reply& reply, SteadyTime now);
  SessionResult<void> take_reply(Reply&& reply, SteadyTime now);
  void count_as_progress(std::uint64_t bytes_fed, SteadyTime now);
  SessionResult<void> take_error(const Reply& reply, SteadyTime now);
  SessionResult<void> take_info(const Reply& reply, SteadyTime now);
  SessionResult<void> take_loaded(const Reply& reply, SteadyTime now);
  void wait(SessionFailure reason, SteadyTime now);
  SessionFailure cluster_failure() const;

  const RedisAddress& address_;
  std::string client_name_;
  std::string record_key_;
  std::chrono::milliseconds tombstone_ttl_;
  bool needs_scripts_ = true;
  NodeRole role_ = NodeRole::kAlone;
  std::string probe_key_;
  bool needs_transactions_ = false;

  SessionState state_ = SessionState::kClosed;
  // What a record may have: of any other text that long, whoever waits for it says that it is none.
  ReplyReader reader_{ReplyLimits{.text_bytes = kRecordBytesMax}};
  std::string output_;
  std::uint64_t dropped_ = 0;         // bytes of output that are gone from its front
  std::uint64_t answered_ = 0;        // where the last command ended that was replied to, counted likewise
  SteadyTime::duration round_trip_ = SteadyTime::duration::max();  // the shortest while signing in
  std::deque<Expected> expected_;
  SteadyTime progress_at_{};
  std::uint64_t progress_bytes_ = 0;  // fed to the reader by then
  SteadyTime wake_due_ = SteadyTime::max();
  std::size_t script_index_ = 0;
  ServerInfo info_;
  SinkConnected connected_;
  std::optional<SessionFailure> waiting_for_;
  std::optional<Error> record_problem_;
  std::string library_problem_;
  bool is_library_out_of_reach_ = false;
};

}  // namespace evictd
