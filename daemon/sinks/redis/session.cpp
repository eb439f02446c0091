#include "daemon/sinks/redis/session.h"

#include "daemon/sinks/redis/errors.h"
#include "daemon/sinks/redis/record_text.h"
#include "daemon/sinks/redis/replies.h"
#include "daemon/base/text.h"
#include "mapping/check.h"

namespace evictd {
namespace {

constexpr std::chrono::milliseconds kWaitInterval{500};
// So much of a long reply, each time, is a sign of life; less than that would let a peer drip for ever.
constexpr std::uint64_t kProgressBytes = 1024 * 1024;
constexpr std::string_view kLibraryName = "evictd";

// Redis works off at once what it has of a pipeline, and serves nobody else meanwhile: some 200 keys with their markers, 0.7 ms.
constexpr std::uint64_t kBurstBytes = 8 * 1024;
// Besides, what is on its way there and back, so that a server far off has always something to do. For short keys that is more than it can do.
constexpr std::uint64_t kBytesPerMicrosecond = 32;
constexpr std::chrono::milliseconds kRoundTripMax{200};

std::string_view info_field(std::string_view text, std::string_view name) {
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line = text.substr(at, end - at);
    at = end + 1;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.size() > name.size() && line.starts_with(name) && line[name.size()] == ':') {
      return line.substr(name.size() + 1);
    }
  }
  return {};
}

tl::unexpected<SessionFailure> protocol_failure(std::string text) {
  return tl::unexpected(
      SessionFailure{Error{ErrorKind::kConnection, std::move(text), {}}, kClassProtocol});
}

SessionFailure failure_of(std::string_view reply) {
  return SessionFailure{redis_error(reply), classify_redis_error(reply).name};
}

}  // namespace

std::optional<ServerInfo> parse_server_info(std::string_view text) {
  ServerInfo info;
  info.run_id = info_field(text, "run_id");
  if (info.run_id.empty()) return std::nullopt;
  info.version = info_field(text, "redis_version");
  const std::string_view role = info_field(text, "role");
  info.is_master = role.empty() || role == "master";
  info.is_loading = info_field(text, "loading") == "1";
  // Valkey 9 calls it server_mode.
  info.is_cluster = info_field(text, "redis_mode") == "cluster" || info_field(text, "server_mode") == "cluster";
  if (std::uint64_t evicted = 0; read_number(info_field(text, "evicted_keys"), evicted)) info.evicted_keys = evicted;
  info.maxmemory_policy = info_field(text, "maxmemory_policy");
  return info;
}

std::string_view session_state_name(SessionState state) {
  switch (state) {
    case SessionState::kClosed:
      return "closed";
    case SessionState::kAuthenticating:
      return "signing in";
    case SessionState::kSelecting:
      return "selecting";
    case SessionState::kNaming:
      return "naming";
    case SessionState::kInspecting:
      return "inspecting";
    case SessionState::kProbing:
      return "probing";
    case SessionState::kTryingMulti:
    case SessionState::kTryingExec:
      return "trying a transaction";
    case SessionState::kWaiting:
      return "waiting";
    case SessionState::kTiming:
      return "reading time";
    case SessionState::kLoading:
      return "loading scripts";
    case SessionState::kAskingLibrary:
      return "asking for the library";
    case SessionState::kLoadingLibrary:
      return "loading the library";
    case SessionState::kReadingRecord:
      return "reading record";
    case SessionState::kReady:
      return "ready";
  }
  return "";
}

Session::Session(const RedisAddress& address, std::string client_name, std::string record_key,
                 std::chrono::milliseconds tombstone_ttl, bool needs_scripts, NodeRole role, std::string probe_key,
                 bool needs_transactions)
    : address_(address),
      client_name_(std::move(client_name)),
      record_key_(std::move(record_key)),
      tombstone_ttl_(tombstone_ttl),
      needs_scripts_(needs_scripts),
      role_(role),
      probe_key_(std::move(probe_key)),
      needs_transactions_(needs_transactions) {}

void Session::begin(SteadyTime now) {
  EVICTD_CHECK(state_ == SessionState::kClosed);
  enter(SessionState::kAuthenticating, now);
}

// Enters `state` and sends its command; a state with nothing to ask is passed through.
void Session::enter(SessionState state, SteadyTime now) {
  state_ = state;
  wake_due_ = SteadyTime::max();
  switch (state) {
    case SessionState::kAuthenticating:
      if (address_.password.empty() && address_.user.empty())
        return enter(SessionState::kSelecting, now);
      if (address_.user.empty()) return send_own({"AUTH", address_.password}, now);
      return send_own({"AUTH", address_.user, address_.password}, now);
    case SessionState::kSelecting:
      if (address_.database == 0) return enter(SessionState::kNaming, now);
      return send_own({"SELECT", std::to_string(address_.database)}, now);
    case SessionState::kNaming:
      return send_own({"CLIENT", "SETNAME", client_name_}, now);
    case SessionState::kInspecting:
      return send_own({"INFO"}, now);
    case SessionState::kProbing:
      // A key of ours that is never written: deleting it asks "may I write?", also of a full Redis.
      return send_own({"UNLINK", probe_key_}, now);
    case SessionState::kTryingMulti:
      // Where MULTI is refused, what follows it is done one by one, and a page of a tag is not what it has to be.
      if (!needs_transactions_) return enter(SessionState::kTiming, now);
      return send_own({"MULTI"}, now);
    case SessionState::kTryingExec:
      return send_own({"EXEC"}, now);
    case SessionState::kTiming:
      return send_own({"TIME"}, now);
    case SessionState::kLoading:
      if (!needs_scripts_) return enter(SessionState::kAskingLibrary, now);
      return send_own({"SCRIPT", "LOAD", scripts()[script_index_].text}, now);
    case SessionState::kAskingLibrary:
      return ask_for_library(now);
    case SessionState::kLoadingLibrary:
      return load_library(now);
    case SessionState::kReadingRecord:
      if (role_ != NodeRole::kAlone) {
        connected_.instance = info_.run_id;
        return enter(SessionState::kReady, now);
      }
      return send_own({"GET", record_key_}, now);
    case SessionState::kWaiting:
      wake_due_ = now + kWaitInterval;
      return;
    case SessionState::kReady:
    case SessionState::kClosed:
      return;
  }
}

void Session::send_own(std::initializer_list<std::string_view> arguments, SteadyTime now, Script loaded) {
  append_command(output_, arguments);
  if (expected_.empty()) progress_at_ = now;
  expected_.push_back(Expected{nullptr, 0, loaded, dropped_ + output_.size(), state_});
}

void Session::ask_for_library(SteadyTime now) {
  send_own({"FCALL", "evictd_version", "0"}, now);
  expected_.back().step = SessionState::kAskingLibrary;
}

void Session::load_library(SteadyTime now) {
  send_own({"FUNCTION", "LOAD", "REPLACE", function_library(tombstone_ttl_, role_ != NodeRole::kAlone)}, now);
  expected_.back().step = SessionState::kLoadingLibrary;
}

void Session::look_for_library(SteadyTime now) {
  EVICTD_CHECK(state_ == SessionState::kReady);
  ask_for_library(now);
}

void Session::expect(ReplyReceiver& receiver, std::uint64_t tag, SteadyTime now) {
  EVICTD_CHECK(state_ == SessionState::kReady);
  if (expected_.empty()) progress_at_ = now;
  expected_.push_back(Expected{&receiver, tag, {}, dropped_ + output_.size(), state_});
}

void Session::load_script(Script which, SteadyTime now) {
  EVICTD_CHECK(state_ == SessionState::kReady);
  send_own({"SCRIPT", "LOAD", script(which).text}, now, which);
}

std::size_t Session::sendable() const {
  if (expected_.empty()) return output_.size();
  const auto on_its_way = std::chrono::duration_cast<std::chrono::microseconds>(std::min<SteadyTime::duration>(round_trip_, kRoundTripMax)).count();
  const std::uint64_t window = kBurstBytes + static_cast<std::uint64_t>(on_its_way) * kBytesPerMicrosecond;
  // Two commands in any case, however long: one that is worked off, and the next.
  const std::uint64_t two = expected_[expected_.size() > 1 ? 1 : 0].output_end;
  const std::uint64_t end = std::max(two, answered_ + window);
  return end <= dropped_ ? 0 : static_cast<std::size_t>(std::min<std::uint64_t>(end - dropped_, output_.size()));
}

void Session::drop_output(std::size_t bytes) {
  output_.erase(0, bytes);
  dropped_ += bytes;
}

std::optional<SteadyTime> Session::waiting_since() const {
  if (expected_.empty()) return std::nullopt;
  return progress_at_;
}

void Session::wake(SteadyTime now) {
  if (state_ == SessionState::kWaiting && now >= wake_due_) enter(SessionState::kInspecting, now);
}

void Session::wait(SessionFailure reason, SteadyTime now) {
  waiting_for_ = std::move(reason);
  enter(SessionState::kWaiting, now);
}

SessionResult<void> Session::receive(std::string_view bytes, SteadyTime now) {
  reader_.feed(bytes);
  while (true) {
    auto next = reader_.next();
    if (!next) return tl::unexpected(SessionFailure{next.error(), kClassProtocol});
    if (!next->has_value()) {
      count_as_progress(reader_.bytes_fed(), now);
      return {};
    }
    if (auto taken = take_reply(std::move(**next), now); !taken) return taken;
  }
}

void Session::count_as_progress(std::uint64_t bytes_fed, SteadyTime now) {
  if (bytes_fed - progress_bytes_ < kProgressBytes) return;
  progress_bytes_ = bytes_fed;
  progress_at_ = now;
}

SessionResult<void> Session::take_reply(Reply&& reply, SteadyTime now) {
  if (expected_.empty()) {
    // What a server says before it hangs up: too many clients, protected mode.
    if (reply.is_error()) return tl::unexpected(failure_of(reply.text));
    return protocol_failure("redis sent a reply that nothing asked for");
  }
  const Expected expected = expected_.front();
  expected_.pop_front();
  answered_ = expected.output_end;
  if (state_ != SessionState::kReady) round_trip_ = std::min(round_trip_, now - progress_at_);  // one command at a time
  progress_at_ = now;
  progress_bytes_ = reader_.bytes_fed();
  if (expected.receiver == nullptr) return take_own(expected, reply, now);
  if (reply.is_error()) {
    std::string about;
    if (expected.receiver->on_error(expected.tag, reply.text, about)) return {};
    SessionFailure failure = failure_of(reply.text);
    failure.error.detail = std::move(about);
    failure.is_refusal = true;
    return tl::unexpected(std::move(failure));
  }
  if (expected.receiver->on_reply(expected.tag, std::move(reply))) return {};
  return protocol_failure("redis sent an unexpected reply to a command");
}

SessionResult<void> Session::take_own(const Expected& expected, const Reply& reply, SteadyTime now) {
  if (expected.step == SessionState::kAskingLibrary || expected.step == SessionState::kLoadingLibrary) return take_library(expected, reply, now);
  if (reply.is_error()) return take_error(reply, now);
  switch (state_) {
    case SessionState::kAuthenticating:
      if (!reply.is_ok()) break;
      enter(SessionState::kSelecting, now);
      return {};
    case SessionState::kSelecting:
      if (!reply.is_ok()) break;
      enter(SessionState::kNaming, now);
      return {};
    case SessionState::kNaming:
      if (!reply.is_ok()) break;
      enter(SessionState::kInspecting, now);
      return {};
    case SessionState::kInspecting:
      return take_info(reply, now);
    case SessionState::kProbing:
      if (!read_count(reply, 1)) break;
      waiting_for_.reset();
      enter(SessionState::kTryingMulti, now);
      return {};
    case SessionState::kTryingMulti:
      if (!reply.is_ok()) break;
      enter(SessionState::kTryingExec, now);
      return {};
    case SessionState::kTryingExec:
      if (reply.kind != Reply::Kind::kArray || !reply.elements.empty()) break;
      enter(SessionState::kTiming, now);
      return {};
    case SessionState::kTiming: {
      const auto time = read_time(reply);
      if (!time) break;
      connected_.time = *time;
      enter(SessionState::kLoading, now);
      return {};
    }
    case SessionState::kLoading:
      return take_loaded(reply, now);
    case SessionState::kReadingRecord: {
      if (reply.kind == Reply::Kind::kText) {
        auto record = record_from_text(reply.text);
        if (record) {
          connected_.record = std::move(*record);
        } else {
          record_problem_ =
              std::move(record.error()).within("the record '" + record_key_ + "' is unreadable");
        }
      } else if (reply.kind == Reply::Kind::kTooLong) {
        record_problem_ = Error{ErrorKind::kData, "the record '" + record_key_ + "' is unreadable: expected at most " + std::to_string(kRecordBytesMax) +
                                                      " bytes, got " + std::to_string(reply.integer), {}};
      } else if (reply.kind != Reply::Kind::kNil) {
        break;
      }
      connected_.instance = info_.run_id;
      enter(SessionState::kReady, now);
      return {};
    }
    case SessionState::kReady:  // SCRIPT LOAD after a NOSCRIPT
      if (reply.kind != Reply::Kind::kText || reply.text != script(expected.script).sha1) break;
      return {};
    case SessionState::kAskingLibrary:
    case SessionState::kLoadingLibrary:
    case SessionState::kWaiting:
    case SessionState::kClosed:
      break;
  }
  return protocol_failure("redis sent an unexpected reply while " +
                          std::string(session_state_name(state_)));
}

SessionResult<void> Session::take_error(const Reply& reply, SteadyTime now) {
  // A name is a convenience: nobody minds if it may not be given. What is said before a hang-up comes here as well.
  const bool no_naming = reply.text.starts_with("ERR unknown") || classify_redis_error(reply.text).name == "noperm";
  if (state_ == SessionState::kNaming && no_naming) {
    enter(SessionState::kInspecting, now);
    return {};
  }
  if (state_ == SessionState::kReadingRecord && reply.text.starts_with("WRONGTYPE")) {
    record_problem_ =
        Error{ErrorKind::kData, "the record '" + record_key_ + "' is not a string", {}};
    connected_.instance = info_.run_id;
    enter(SessionState::kReady, now);
    return {};
  }
  if (state_ == SessionState::kSelecting && reply.text.find("cluster mode") != std::string::npos) {
    return tl::unexpected(cluster_failure());
  }
  // Its slot has just moved: what is asked of this node from now on will tell.
  if (state_ == SessionState::kProbing && role_ == NodeRole::kShard && (reply.text.starts_with("MOVED ") || reply.text.starts_with("ASK "))) {
    waiting_for_.reset();
    enter(SessionState::kTiming, now);
    return {};
  }
  if (classify_redis_error(reply.text).action == RedisAction::kWait &&
      state_ != SessionState::kReady) {
    wait(failure_of(reply.text), now);
    return {};
  }
  return tl::unexpected(failure_of(reply.text));
}

SessionResult<void> Session::take_info(const Reply& reply, SteadyTime now) {
  auto info = reply.kind == Reply::Kind::kText ? parse_server_info(reply.text) : std::nullopt;
  if (!info) return protocol_failure("expected the INFO of a Redis server, got something else");
  info_ = std::move(*info);
  if (info_.is_cluster && (role_ == NodeRole::kAlone || address_.database != 0)) return tl::unexpected(cluster_failure());
  if (!info_.is_cluster && role_ != NodeRole::kAlone) {
    return tl::unexpected(SessionFailure{
        Error{ErrorKind::kUsage, "redis at '" + address_.to_string() + "' is not in cluster mode, and others of 'redis: url:' are, or it names several",
              std::string(kSeveralAddressesHint)},
        kClassCluster});
  }
  if (role_ == NodeRole::kObserver) {
    connected_.instance = info_.run_id;
    enter(SessionState::kReady, now);
    return {};
  }
  if (!info_.is_master) return tl::unexpected(failure_of("READONLY You are talking to a replica."));
  if (info_.is_loading) {
    wait(failure_of("LOADING Redis is loading the dataset in memory"), now);
    return {};
  }
  enter(SessionState::kProbing, now);
  return {};
}

SessionFailure Session::cluster_failure() const {
  if (address_.database != 0) {
    return {Error{ErrorKind::kUsage,
                  "redis at '" + address_.to_string() + "' is a node of a cluster, which has database 0 alone, and 'redis: url:' names database " +
                      std::to_string(address_.database),
                  "leave '/" + std::to_string(address_.database) + "' out of the url"},
            kClassCluster};
  }
  return {Error{ErrorKind::kUsage, "redis at '" + address_.to_string() + "' is a cluster node",
                "a cluster needs no Sentinels: leave 'redis: sentinels:' out, and name one or several of its nodes in 'redis: url:' (docs/cluster.md)"},
          kClassCluster};
}

SessionResult<void> Session::take_loaded(const Reply& reply, SteadyTime now) {
  if (reply.kind != Reply::Kind::kText || reply.text != scripts()[script_index_].sha1) {
    return protocol_failure("redis stored another script than it was sent");
  }
  ++script_index_;
  enter(script_index_ < kScriptCount ? SessionState::kLoading : SessionState::kAskingLibrary, now);
  return {};
}

// Readers need the functions, deletes do not: what goes wrong with them is told, and tried again later.
SessionResult<void> Session::take_library(const Expected& expected, const Reply& reply, SteadyTime now) {
  if (expected.step == SessionState::kLoadingLibrary) {
    const bool is_loaded = reply.kind == Reply::Kind::kText && reply.text == kLibraryName;
    if (!is_loaded && !reply.is_error()) return protocol_failure("redis sent an unexpected reply while loading the library");
    end_with_library(is_loaded ? std::string() : reply.text, now);
    return {};
  }
  if (reply.is_error() && reply.text.find("Function not found") == std::string::npos) {
    end_with_library(reply.text, now);
    return {};
  }
  // "<version> <tombstone_ttl in ms>". A newer library, of a newer evictd, is left alone; what answers in another way is none of evictd's.
  std::int64_t there = 0;
  const std::string_view text = reply.kind == Reply::Kind::kText ? std::string_view(reply.text) : std::string_view();
  const bool is_newer = read_number(text.substr(0, text.find(' ')), there) && there > kLibraryVersion;
  if (is_newer) {
    end_with_library({}, now);
  } else if (state_ == SessionState::kReady) {
    load_library(now);  // of our version, too: it was looked for because it did not do its work
  } else if (text == library_version(tombstone_ttl_, role_ != NodeRole::kAlone)) {
    end_with_library({}, now);
  } else {
    enter(SessionState::kLoadingLibrary, now);
  }
  return {};
}

void Session::end_with_library(std::string problem, SteadyTime now) {
  library_problem_ = std::move(problem);
  const std::string_view error_class = classify_redis_error(library_problem_).name;
  is_library_out_of_reach_ = !library_problem_.empty() && (error_class == "noperm" || error_class == kClassUnknownCommand);
  if (state_ != SessionState::kReady) enter(SessionState::kReadingRecord, now);
}

}  // namespace evictd
