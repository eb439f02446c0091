#include "daemon/sinks/redis/redis_sink.h"

#include <algorithm>
#include <map>
#include <random>

#include "daemon/interface/forwarding_sink.h"
#include "daemon/sinks/redis/cluster/cluster_sink.h"
#include "daemon/sinks/redis/errors.h"
#include "daemon/sinks/redis/eviction.h"
#include "daemon/sinks/redis/node_sink.h"
#include "daemon/sinks/redis/record_text.h"
#include "daemon/sinks/redis/redis_work.h"
#include "daemon/sinks/redis/replies.h"
#include "daemon/sinks/redis/resp.h"
#include "daemon/sinks/redis/session.h"
#include "daemon/sinks/redis/topology/sentinel_link.h"
#include "daemon/sinks/redis/told_address.h"
#include "daemon/sinks/redis/transport.h"
#include "daemon/sinks/redis/url.h"
#include "daemon/sinks/redis/witness.h"
#include "mapping/check.h"

namespace evictd {
namespace {

// What to do where nobody answers at the address that the url names.
std::string url_address_hint(const RedisAddress& address) {
  const std::string where = address.socket_path.empty() ? "-h " + address.host + " -p " + std::to_string(address.port) : "-s " + address.socket_path;
  return "that is where 'redis: url:' looks for it: start it there, or mend the url. Whether it can be reached from this machine, 'redis-cli " + where +
         (address.tls ? " --tls" : "") + " ping' tells";
}

// INFO while connected: evicted_keys for the metric, and a sign of life on an idle connection.
constexpr std::chrono::seconds kInfoInterval{10};
// How long /status tells of a full Redis after it last refused a tombstone.
constexpr std::chrono::seconds kFullShown{30};
// A server that owes an answer for so long is told of, however much longer 'redis: timeout' lets it be.
constexpr std::chrono::seconds kSilenceUntold{5};
constexpr std::size_t kReadBytes = 64 * 1024;
constexpr std::chrono::seconds kRecordRetry{1};
// A password is renewed in the last fifth of its life, but not more than this before its end; and tried for this often.
constexpr std::chrono::seconds kRenewBefore{60};
constexpr std::chrono::milliseconds kRenewRetry{500};
// One whose end has passed when it comes is asked for again after this; one without an end worth the name, after that.
constexpr std::chrono::seconds kRenewExpired{10};
constexpr std::chrono::hours kRenewMax{24 * 365};
constexpr std::size_t kReadsPerStep = 8;
constexpr std::size_t kSnapshotRunningMax = 64;  // sent along with commands

// Receives the replies that belong to no command: INFO's and the records'.
class Housekeeping final : public ReplyReceiver {
 public:
  static constexpr std::uint64_t kInfoTag = 0;
  static constexpr std::uint64_t kStatsTag = 1;
  static constexpr std::uint64_t kResyncTag = 2;
  static constexpr std::uint64_t kAuthTag = 3;  // records have the tags from 4 on

  struct Loaded {
    std::uint64_t sequence = 0;
    std::optional<Record> record;
    bool is_unreadable = false;
  };

  // 0: none.
  static std::uint64_t sequence_of(const std::optional<Record>& record) { return record ? record->sequence : 0; }

  // By a script a full Redis takes it as well. Where the rules ask for deletes only, scripts may be forbidden: then it is
  // SET, a script only if Redis is full, and SET again later.
  struct Saving {
    std::uint64_t sequence = 0;
    std::string text;
    enum class Way { kScript, kSet, kScriptIfAllowed } way = Way::kScript;
    std::optional<std::uint64_t> former = {};  // the sequence that what is there has to have; nothing: whatever it is
  };

  bool on_reply(std::uint64_t tag, Reply&& reply) override {
    if (tag == kInfoTag) return take_info(reply);
    if (tag == kStatsTag) return take_stats(reply);
    if (tag == kAuthTag) {
      renewal = std::string();
      return reply.is_ok();
    }
    if (tag == kResyncTag) return read_count(reply, kChannelsMax).has_value();
    if (const auto asked = loading.find(tag); asked != loading.end()) {
      if (!may_be_of_record(reply)) return false;
      take_loaded(asked, reply);
      return true;
    }
    const auto found = saving.find(tag);
    if (found == saving.end()) return false;
    return take_saved(found, reply);
  }

  bool on_error(std::uint64_t tag, std::string_view text, std::string& about) override {
    if (const auto asked = loading.find(tag); asked != loading.end() && text.starts_with("WRONGTYPE")) {
      take_loaded(asked, Reply{});
      return true;
    }
    if (tag == kAuthTag) {
      renewal = std::string(text);  // the session stays what it was
      return true;
    }
    if (tag == kStatsTag && classify_redis_error(text).action != RedisAction::kWait) {
      is_library_lost = true;
      return true;
    }
    const auto found = saving.find(tag);
    if (found == saving.end()) return false;
    if (found->second.former && text.find("WRONGTYPE") != std::string_view::npos) {
      is_set_back = true;  // it is no text any more
      saving.erase(found);
      return true;
    }
    if (found->second.way == Saving::Way::kSet && found->second.former && text.starts_with("ERR syntax error")) {
      has_set_get = false;  // Redis before 6.2
      refused = std::move(found->second);
      saving.erase(found);
      return true;
    }
    if (found->second.way == Saving::Way::kSet && classify_redis_error(text).name == "oom") {
      refused = std::move(found->second);
      refused->way = Saving::Way::kScriptIfAllowed;
      saving.erase(found);
      return true;
    }
    if (found->second.way == Saving::Way::kScriptIfAllowed) {
      is_record_refused = true;
      later = std::move(found->second);
      later->way = Saving::Way::kSet;
      saving.erase(found);
      return true;
    }
    if (is_flushed(text) && ++reloads_ <= kReloadsMax) {
      refused = std::move(found->second);  // only the newest record matters
      saving.erase(found);
      return true;
    }
    about = "it was about evictd's record";
    return false;
  }

  std::optional<ServerInfo> info;
  NamedCounts fills;
  std::map<std::uint64_t, Saving> saving;  // by tag
  std::uint64_t last_tag = kAuthTag;
  std::optional<Saving> refused;
  std::optional<Saving> later;  // neither SET nor a script could store it
  bool is_record_refused = false;
  std::optional<std::uint64_t> former;  // sequence of the record that is there; nothing: not known
  bool has_set_get = true;         // SET ... GET is known
  bool is_set_back = false;        // another record was there
  bool is_library_lost = false;    // the readers' functions do not answer
  bool is_anothers = false;        // another evictd writes it: nothing can be told by it
  std::optional<std::optional<Record>> overwritten;  // which one, where it is no more
  std::optional<std::string> renewal;  // of the password: its answer came; what the server refuses it with, if it does
  std::vector<std::uint64_t> saved;  // sequences
  std::map<std::uint64_t, std::uint64_t> loading;  // tag -> sequence
  std::vector<Loaded> loaded;

 private:
  static constexpr std::uint64_t kChannelsMax = 1'000'000;

  static bool may_be_of_record(const Reply& reply) { return is_text_or_nil(reply) || reply.kind == Reply::Kind::kTooLong; }

  // A script replies the length of the text that is stored now, or that another record is there; SET ... GET what was there.
  bool take_saved(std::map<std::uint64_t, Saving>::iterator found, const Reply& reply) {
    const Saving& asked = found->second;
    if (asked.way == Saving::Way::kSet && asked.former) {
      if (!may_be_of_record(reply)) return false;
      std::optional<Record> there;
      if (reply.kind == Reply::Kind::kText) {
        if (auto record = record_from_text(reply.text)) there = std::move(*record);
      }
      if (sequence_of(there) < *asked.former) {
        is_set_back = true;
        overwritten = std::move(there);
      }
    } else if (asked.way == Saving::Way::kSet) {
      if (!reply.is_ok()) return false;
    } else if (reply.kind != Reply::Kind::kInteger) {
      return false;
    } else if (reply.integer == -1 && asked.former) {
      is_set_back = true;
    } else if (reply.integer != static_cast<std::int64_t>(asked.text.size())) {
      return false;
    }
    if (!is_set_back) {
      is_record_refused = false;
      former = asked.sequence;
      saved.push_back(asked.sequence);
    }
    saving.erase(found);
    reloads_ = 0;
    return true;
  }

  bool take_info(const Reply& reply) {
    auto read = reply.kind == Reply::Kind::kText ? parse_server_info(reply.text) : std::nullopt;
    if (!read) return false;
    info = std::move(read);
    return true;
  }

  bool take_stats(const Reply& reply) {
    auto counts = read_counts(reply);
    is_library_lost = !counts.has_value();  // somebody else's, under the same names
    if (counts) fills = std::move(*counts);
    return true;
  }

  // One that cannot be read is none, as at the start of a connection.
  void take_loaded(std::map<std::uint64_t, std::uint64_t>::iterator asked, const Reply& reply) {
    Loaded& answer = loaded.emplace_back(Loaded{asked->second, std::nullopt});
    loading.erase(asked);
    answer.is_unreadable = reply.kind == Reply::Kind::kTooLong;
    if (reply.kind != Reply::Kind::kText) return;
    if (auto record = record_from_text(reply.text)) {
      answer.record = std::move(*record);
    } else {
      answer.is_unreadable = true;
    }
  }

  std::size_t reloads_ = 0;  // in a row
};

class RedisSink final : public NodeSink {
 public:
  RedisSink(RedisOptions options, RedisAddress address, NodeOptions node)
      : options_(std::move(options)),
        node_(std::move(node)),
        address_(std::move(address)),
        transport_(address_,
                   TlsFiles{options_.tls_ca_file, options_.tls_cert_file, options_.tls_key_file}),
        shared_{.context = {},
                .since = "0",
                .lifetime =
                    std::to_string((options_.tombstone_ttl + options_.tombstone_margin).count()),
                .page_keys = options_.page_keys,
                .may_touch = options_.may_touch,
                .pacer = WalkPacer(options_.walk_share, options_.walks_max)},
        random_(std::random_device{}()) {
    if (!options_.sentinels.empty()) sentinels_.emplace(sentinel_options(options_, address_));
  }

  void start(Now now) override {
    EVICTD_CHECK(!started_);
    started_ = true;
    retry_due_ = now.steady;
  }

  void step(Now now, SinkHandler& handler) override {
    if (!started_ || failed_) return;
    if (transport_.state() == Transport::State::kClosed) {
      if (now.steady < retry_due_) return;
      // Where it is, and with which password: both asked for anew at each connection, one after the other.
      if (!is_located_ && !locate(now.steady, handler)) return;
      is_located_ = true;
      if (!has_password(now, handler)) return;
      is_located_ = false;
      open(now.steady);
    }
    if (sentinels_) listen_to_sentinels(now.steady);
    if (auto moved = move(now.steady); !moved) {
      // What came before a reply that does not fit is not believed either: it is sent again, which is safe (G2).
      if (announced_ && moved.error().error_class != kClassProtocol) report_progress(handler, now.steady);
      drop(moved.error(), now.steady, handler);
      return;
    }
    report_progress(handler, now.steady);
    report_waiting(handler);
    tell_of_sentinels(now.steady, handler);
    ask_replicas(now, handler);
    if (session_ && session_->is_ready()) {
      pump(now.steady);
      if (now.steady >= info_due_) ask_info(now.steady);
      renew_password(now);
    }
    flush();
  }

  void wait_for(Waiting& waiting) override {
    if (!started_ || failed_) return;
    if (broken_) return waiting.wake_at(SteadyTime::min());
    if (asking_) asking_->wait_for(waiting);
    if (sentinels_) sentinels_->wait_for(waiting);
    if (transport_.state() == Transport::State::kClosed) {
      if (!asking_ && (!sentinels_ || sentinels_->state() == SentinelLink::State::kIdle)) waiting.wake_at(retry_due_);
      return;
    }
    // What was submitted in this turn of the loop leaves before it sleeps.
    flush();
    if (broken_) return waiting.wake_at(SteadyTime::min());
    transport_.wait_for(waiting, written_ < session_sendable());
    if (!session_) return waiting.wake_at(opened_at_ + options_.connect_timeout);
    waiting.wake_at(session_->wake_due());
    if (const auto since = session_->waiting_since())
      waiting.wake_at(*since + options_.command_timeout);
    if (!session_->is_ready()) return;
    if (witness_) witness_->wait_for(waiting);
    waiting.wake_at(info_due_);
    if (!asking_) waiting.wake_at(renew_due_);
    if (housekeeping_.later) waiting.wake_at(record_retry_due_);
    for (const auto& work : works_) {
      if (const auto at = work->wake_at()) waiting.wake_at(*at);
    }
    for (const auto& work : works_) {
      if (work->wants_wake()) {
        waiting.wake_at(shared_.pacer.wake_at());
        break;
      }
    }
  }

  void set_context(const SinkContext& context) override {
    shared_.context = context;
    evictions_.rely_on(context.kept);
    shared_.since = std::to_string(context.trust_since.count());
    // A server with hundreds of open transactions has long snapshots; tombstones do without them.
    if (!context.snapshot || context.snapshot->in_progress().size() > kSnapshotRunningMax) return;
    shared_.since += ' ';
    shared_.since += context.snapshot->to_string();
  }

  bool has_room(Urgency urgency) const override {
    if (!is_connected() || pending_bytes() >= options_.output_bytes_max) return false;
    if (urgency == Urgency::kBulk) return bulk_works_ < options_.bulk_max;
    return works_.size() - bulk_works_ < options_.commands_max && under_way_bytes_ < options_.under_way_bytes_max;
  }

  void submit(Ticket ticket, const Order& order) override {
    EVICTD_CHECK(has_room(order.urgency()));
    EVICTD_CHECK(order.target == Target::kPatterns ? !order.patterns.empty() : order.texts->size() > 0);
    works_.push_back(make_work(ticket, order, shared_));
    if (works_.back()->is_bulk()) ++bulk_works_;
    under_way_bytes_ += works_.back()->bytes();
    works_.back()->pump(*session_, last_now_);
  }

  bool is_cluster_found() const override { return is_cluster_found_; }
  bool is_asking_for_password() const override { return asking_ != nullptr && transport_.state() == Transport::State::kClosed; }

  void run(std::unique_ptr<RedisWork> work) override {
    EVICTD_CHECK(is_connected());
    works_.push_back(std::move(work));
  }

  void send_now() override {
    if (session_ && session_->is_ready()) pump(last_now_);
  }

  void save_record(const Record& record) override {
    EVICTD_CHECK(is_connected());
    using Way = Housekeeping::Saving::Way;
    housekeeping_.later.reset();  // only the newest matters
    send_record({record.sequence, record_to_text(record), shared_.context.is_deletes_only ? Way::kSet : Way::kScript});
  }

  void load_record(std::uint64_t sequence) override {
    EVICTD_CHECK(is_connected());
    append_command(session_->output(), {"GET", record_key()});
    const std::uint64_t tag = ++housekeeping_.last_tag;
    housekeeping_.loading.emplace(tag, sequence);
    session_->expect(housekeeping_, tag, last_now_);
  }

  bool is_losing_keys() const override { return evictions_.problem().has_value(); }

  // At once: nobody steps a sink that was stopped.
  void stop() override {
    if (transport_.state() == Transport::State::kOpen) flush(true);
    transport_.close();
    if (sentinels_) sentinels_->stop();
    session_.reset();
    broken_.reset();
    asking_.reset();
    witness_.reset();
    announced_ = false;
    started_ = false;
    stopped_ = true;
    end_works();
  }

  SinkStatus status() const override {
    SinkStatus status;
    status.connected = is_connected();
    status.state = state_text();
    if (status.connected) {
      status.evicted_keys = session_->info().evicted_keys;
      status.fills = housekeeping_.fills;
    }
    if (status.connected && refused_until_ > last_now_) {
      status.problem = "redis is full: tombstones are refused, deletes work";
    } else if (status.connected && housekeeping_.is_record_refused) {
      status.problem = "redis is full: evictd's record is refused, deletes work; until it is stored, the database keeps what is not acknowledged";
    } else if (status.connected && housekeeping_.is_anothers) {
      status.problem = "another evictd, which follows another database, writes the same record, '" + record_key() +
                       "': each purges what the other has; give one of them another name (postgres.slot), and 'on_first_start: purge' for its first start under it; or another database of redis";
    } else if (status.connected && silence_) {
      status.problem = silence_->text;
    } else if (!status.connected && reported_) {
      status.problem = reported_->text;
    } else if (status.connected && silent_for() >= kSilenceUntold) {
      status.problem = "redis at '" + address_.to_string() + "' has not replied for " +
                       std::to_string(std::chrono::floor<std::chrono::seconds>(silent_for()).count()) + " s";
    } else if (status.connected) {
      status.problem = evictions_.problem();
    }
    for (const auto& work : works_) {
      if (std::string problem = work->problem(); !problem.empty()) status.held_up = std::move(problem);
    }
    if (replicas_missing_) status.held_up = replicas_missing_->text;
    if (status.held_up && !status.problem) status.problem = status.held_up;
    if (const SemanticCounts& counts = shared_.semantic; counts.is_used) {
      status.semantic = {{"searches", counts.searches},        {"keys_deleted", counts.keys},         {"over_limit", counts.over_limit},
                         {"other_dimensions", counts.dimensions}, {"no_cosines", counts.no_scores}, {"unwritable_value", counts.unwritable},
                         {"cleared", counts.cleared}};
    }
    return status;
  }

 private:
  std::string record_key() const { return node_.record_key.empty() ? evictd::record_key(options_.record_name, options_.record_of) : node_.record_key; }
  bool is_connected() const { return announced_ && session_ && session_->is_ready(); }
  SteadyTime::duration silent_for() const {
    const auto since = session_->waiting_since();
    return since ? last_now_ - *since : SteadyTime::duration(0);
  }
  std::size_t pending_bytes() const { return session_ ? session_->output().size() - written_ : 0; }
  std::size_t session_sendable() const { return session_ ? session_->sendable() : 0; }

  // Where it is asked for, it is asked for anew at each connect.
  bool has_password(Now now, SinkHandler& handler) {
    if (!options_.credential.is_set()) return true;
    if (!asking_) asking_ = std::make_unique<CredentialLookup>(options_.credential);
    if (!asking_->is_done()) return false;
    const Result<Credential> answer = asking_->answer();
    asking_.reset();
    if (answer) {
      take_password(*answer, now);
      return true;
    }
    last_now_ = now.steady;
    drop(SessionFailure{answer.error(), kClassAuth}, now.steady, handler);
    return false;
  }

  void take_password(const Credential& credential, Now now) {
    address_.password = credential.password.reveal();
    renew_due_ = SteadyTime::max();
    password_problem_.clear();
    if (!credential.expires) return;
    if (*credential.expires <= now.system) {
      password_problem_ = options_.credential.to_string() + " gave one that had expired before it was asked for: compare the clocks";
      renew_due_ = now.steady + kRenewExpired;
      return;
    }
    // 'expires' may be the year 9999, for which a clock that counts nanoseconds has no number.
    const SystemTime::duration left = std::min<SystemTime::duration>(*credential.expires - now.system, kRenewMax);
    renew_due_ = now.steady + std::max<SteadyTime::duration>(left - std::min<SystemTime::duration>(left / 5, kRenewBefore), kRenewRetry);
  }

  // Before it expires, the open connection signs in again. One that cannot be had, or is refused, is tried for again; the
  // connection goes on as long as the server lets it.
  void renew_password(Now now) {
    if (const auto refused = std::exchange(housekeeping_.renewal, std::nullopt); refused && !refused->empty()) {
      password_problem_ = *refused;
      renew_due_ = now.steady + kRenewRetry;
    }
    if (now.steady < renew_due_) return;
    if (!asking_) asking_ = std::make_unique<CredentialLookup>(options_.credential);
    if (!asking_->is_done()) return;
    const Result<Credential> answer = asking_->answer();
    asking_.reset();
    if (!answer) {
      password_problem_ = answer.error().text;
      renew_due_ = now.steady + kRenewRetry;
      return;
    }
    take_password(*answer, now);
    std::string& out = session_->output();
    if (address_.user.empty()) {
      append_command(out, {"AUTH", address_.password});
    } else {
      append_command(out, {"AUTH", address_.user, address_.password});
    }
    session_->expect(housekeeping_, Housekeeping::kAuthTag, now.steady);
  }

  // Whether it is known where the master is. Asks the Sentinels first, at every connection.
  bool locate(SteadyTime now, SinkHandler& handler) {
    if (!sentinels_) return true;
    if (sentinels_->state() == SentinelLink::State::kIdle) sentinels_->find(now);
    sentinels_->step(now);
    if (sentinels_->state() == SentinelLink::State::kFailed) drop({sentinels_->error(), kClassSentinels}, now, handler);
    if (sentinels_->state() != SentinelLink::State::kFound) return false;
    address_.host = sentinels_->master().host;
    address_.port = sentinels_->master().port;
    sentinels_->stop();
    return true;
  }

  // While there is a connection: what they say now.
  void listen_to_sentinels(SteadyTime now) {
    sentinels_->step(now);
    if (sentinels_->take_moved()) broken_ = moved_failure();
  }

  // Who is the master nobody knows any more: what we do is right as long as it still is this one.
  void tell_of_sentinels(SteadyTime now, SinkHandler& handler) {
    if (!sentinels_) return;
    std::optional<Error> silence = is_connected() ? sentinels_->silence(now) : std::nullopt;
    const bool is_told = silence_.has_value();
    silence_ = std::move(silence);
    if (silence_ && !is_told) handler.on_sink_trouble(*silence_, kClassSentinels);
  }

  // A server that calls itself a master may have been replaced while it stood still, or while we connected to it.
  bool is_still_the_master(SteadyTime now) {
    if (!sentinels_) return true;
    switch (sentinels_->state()) {
      case SentinelLink::State::kIdle:
        sentinels_->confirm(now);
        return false;
      case SentinelLink::State::kAsking:
        return false;
      case SentinelLink::State::kFailed:
        broken_ = SessionFailure{sentinels_->error(), kClassSentinels};
        return false;
      case SentinelLink::State::kFound:
        if (sentinels_->master() != HostPort{address_.host, address_.port}) {
          broken_ = moved_failure();
          return false;
        }
        sentinels_->watch(now);
        return true;
      case SentinelLink::State::kWatching:
        return true;
    }
    return true;
  }

  SessionFailure moved_failure() const {
    return {Error{ErrorKind::kConnection,
                  "the Sentinels have made '" + sentinels_->master().to_string() + "' the master, in place of '" + address_.to_string() + "'", {}},
            kClassMoved};
  }

  // A flush, SWAPDB, a dump that is loaded into a running server: the connection outlives them, the data does not. Connected
  // anew, it is judged like a server that came back.
  SessionFailure set_back_failure() const {
    return {Error{ErrorKind::kConnection,
                  "the data of redis at '" + address_.to_string() +
                      "' was flushed, swapped or loaded anew: the record in it is not the one that was written last",
                  "or another evictd, with the same name, writes it: 'evictd check' tells"},
            kClassSetBack};
  }

  void open(SteadyTime now) {
    last_now_ = now;
    is_trying_ = true;
    opened_at_ = now;
    transport_.open();
  }

  // Everything that the network has for us.
  SessionResult<void> move(SteadyTime now) {
    last_now_ = now;
    if (broken_) return tl::unexpected(*std::exchange(broken_, std::nullopt));
    auto state = transport_.advance();
    if (!state) return connection_failure(state.error());
    if (*state != Transport::State::kOpen) {
      if (now - opened_at_ < options_.connect_timeout) return {};
      transport_.close();
      const bool no_tls = *state == Transport::State::kHandshaking;
      auto failure = timeout_failure((no_tls ? "no TLS handshake with redis at '" : "no connection to redis at '") +
                                     address_.to_string() + "' within " +
                                     std::to_string(options_.connect_timeout.count()) + "ms");
      if (no_tls) failure.value().error.hint = kNoTlsHint;
      return failure;
    }
    if (!session_) {
      session_.emplace(address_, options_.client_name, record_key(), options_.tombstone_ttl,
                       !shared_.context.is_deletes_only, node_.role, node_.probe_key,
                       shared_.context.has_plain_tag_sets && node_.role == NodeRole::kAlone);
      session_->begin(now);
    }
    session_->wake(now);
    if (!session_->has_heard()) {  // a server that does not want us says so at once, and a write might cost us its words
      if (auto read = read_all(now); !read) return read;
    }
    flush();
    if (broken_) return tl::unexpected(*std::exchange(broken_, std::nullopt));
    if (auto read = read_all(now); !read) return read;
    if (const auto since = session_->waiting_since();
        since && now - *since >= options_.command_timeout) {
      return timeout_failure("redis at '" + address_.to_string() + "' did not reply within " +
                             std::to_string(options_.command_timeout.count()) + "ms");
    }
    return {};
  }

  SessionResult<void> read_all(SteadyTime now) {
    for (std::size_t i = 0; i < kReadsPerStep; ++i) {
      input_.clear();
      auto got = transport_.read(input_, kReadBytes);
      if (!got) {
        Error error = std::move(got.error());
        if (!session_->has_heard() && !address_.tls && error.hint.empty()) {
          error.hint = kTlsHint;
        }
        return connection_failure(std::move(error));
      }
      if (*got == 0) return {};
      if (auto received = session_->receive(input_, now); !received) return received;
      if (*got < kReadBytes) return {};
    }
    return {};
  }

  static tl::unexpected<SessionFailure> connection_failure(Error error) {
    const bool tls =
        error.text.find("TLS") != std::string::npos || error.text.starts_with("cannot trust");
    return tl::unexpected(SessionFailure{std::move(error), tls ? kClassTls : kClassConnection});
  }
  static tl::unexpected<SessionFailure> timeout_failure(std::string text) {
    return tl::unexpected(
        SessionFailure{Error{ErrorKind::kConnection, std::move(text), {}}, kClassTimeout});
  }

  // Writes as much as the socket takes, of what the server may have by now; at the end, of all. A failure is kept for the next step.
  void flush(bool is_the_end = false) {
    if (!session_ || transport_.state() != Transport::State::kOpen || broken_) return;
    const std::string& output = session_->output();
    const std::size_t end = is_the_end ? output.size() : session_->sendable();
    while (written_ < end) {
      auto taken = transport_.write(std::string_view(output).substr(written_, end - written_));
      if (!taken) {
        broken_ = connection_failure(taken.error()).value();
        return;
      }
      if (*taken == 0) break;
      written_ += *taken;
    }
    if (written_ > output.size() / 2) session_->drop_output(std::exchange(written_, 0));
  }

  // Walks of either urgency take turns at being first, so that one of minutes does not hold up a tag.
  void pump(SteadyTime now) {
    const bool bulk_first = shared_.pacer.next_urgency() == Urgency::kBulk;
    for (const bool is_first : {true, false}) {
      for (const auto& work : works_) {
        if ((work->is_bulk() == bulk_first) == is_first) work->pump(*session_, now);
      }
    }
  }

  // Tells the handler what is finished. It may submit more from inside.
  void report_progress(SinkHandler& handler, SteadyTime now) {
    if (!session_) return;
    if (session_->is_ready() && !announced_ && is_still_the_master(now)) announce(handler, now);
    if (!announced_) return;
    if (shared_.tombstones_refused != refused_seen_) {
      refused_seen_ = shared_.tombstones_refused;
      refused_until_ = now + kFullShown;
    }
    if (shared_.fatal) return fail(handler);
    // Pumped first, so that a walk whose last reply came is seen to be finished.
    pump(now);
    std::vector<std::unique_ptr<RedisWork>> finished;
    for (auto& work : works_) {
      if (!work->is_finished()) continue;
      under_way_bytes_ -= work->bytes();
      if (work->is_bulk()) --bulk_works_;
      finished.push_back(std::move(work));
    }
    std::erase_if(works_, [](const auto& work) { return work == nullptr; });
    if (housekeeping_.info) {
      session_->update_info(*std::exchange(housekeeping_.info, std::nullopt));
      evictions_.seen(session_->info().maxmemory_policy, session_->info().evicted_keys);
    }
    if (std::exchange(housekeeping_.is_library_lost, false)) {
      session_->look_for_library(now);
    }
    if (housekeeping_.refused) {
      if (housekeeping_.refused->way == Housekeeping::Saving::Way::kScript) session_->load_script(Script::kSaveRecord, now);
      send_record(std::move(*std::exchange(housekeeping_.refused, std::nullopt)));
    }
    if (housekeeping_.later && now >= record_retry_due_) {
      if (record_retry_due_ == SteadyTime::min()) {
        record_retry_due_ = now + kRecordRetry;
      } else {
        record_retry_due_ = SteadyTime::min();
        send_record(std::move(*std::exchange(housekeeping_.later, std::nullopt)));
      }
    }
    for (const auto& work : finished) handler.on_done(work->ticket(), work->outcome());
    for (const std::uint64_t sequence : std::exchange(housekeeping_.saved, {})) {
      handler.on_record_saved(sequence);
      if (options_.replicas_ack == 0) {
        handler.on_record_confirmed(sequence);
      } else {
        unconfirmed_ = sequence;
      }
    }
    for (const auto& [sequence, record, is_unreadable] : std::exchange(housekeeping_.loaded, {})) {
      housekeeping_.former.reset();
      if (!is_unreadable) housekeeping_.former = Housekeeping::sequence_of(record);
      handler.on_record_loaded(sequence, record);
    }
    if (housekeeping_.is_set_back) broken_ = set_back_failure();
  }

  // Whether they have what is on record.
  void ask_replicas(Now now, SinkHandler& handler) {
    if (!is_connected() || options_.replicas_ack == 0) return;
    if (unconfirmed_) {
      if (!witness_) witness_ = std::make_unique<Witness>(options_, address_, node_.role, std::string(), shared_.context);
      witness_->ask(session_->connected().instance, *std::exchange(unconfirmed_, std::nullopt), now);
    }
    if (!witness_) return;
    witness_->step(now);
    if (const auto sequence = witness_->take_confirmed()) handler.on_record_confirmed(*sequence);
    std::optional<Error> missing = witness_->problem();
    const bool is_told = missing.has_value() == replicas_missing_.has_value() && (!missing || missing->text == replicas_missing_->text);
    replicas_missing_ = std::move(missing);
    if (!is_told) handler.on_replicas_missing(replicas_missing_);
  }

  // What a rule says of `on_overflow: stop`.
  void fail(SinkHandler& handler) {
    const Error error = *std::exchange(shared_.fatal, std::nullopt);
    witness_.reset();
    replicas_missing_.reset();
    transport_.close();
    if (sentinels_) sentinels_->stop();
    session_.reset();
    announced_ = false;
    failed_ = true;
    reported_ = error;
    const std::vector<Ticket> lost = end_works();
    for (const Ticket ticket : lost) handler.on_lost(ticket);
    handler.on_sink_failed(error);
  }

  void announce(SinkHandler& handler, SteadyTime now) {
    announced_ = true;
    is_trying_ = false;
    ever_connected_ = true;
    reported_.reset();
    announced_at_ = now;
    info_due_ = now;  // readers' counts at once
    evictions_.seen(session_->info().maxmemory_policy, session_->info().evicted_keys);
    tell_subscribers_to_drop_all(now);
    SinkConnected connected = session_->connected();
    if (!session_->record_problem()) housekeeping_.former = Housekeeping::sequence_of(connected.record);
    // What was there before we wrote over it is what has to be judged.
    if (overwritten_) connected.record = *std::exchange(overwritten_, std::nullopt);
    // Data that came in by one exchange may be of another history, too; but of one that is still written, every write of ours
    // would find what is not ours, and purge.
    const Epoch& ours = shared_.context.epoch;
    housekeeping_.is_anothers = std::exchange(was_set_back_, false) && connected.record && !ours.empty() &&
                                 !connected.record->epoch.empty() && connected.record->epoch != ours;
    handler.on_sink_connected(connected);
  }

  // The text itself instead of its hash: once per connection, and never told NOSCRIPT.
  void tell_subscribers_to_drop_all(SteadyTime now) {
    const std::vector<std::string>& channels = shared_.context.channels;
    if (channels.empty()) return;
    std::string& out = session_->output();
    append_command_head(out, 3 + 2 * channels.size());
    append_argument(out, "EVAL");
    append_argument(out, script(Script::kResync).text);
    append_argument(out, channels.size());
    for (const std::string& channel : channels) append_argument(out, channel_counter(channel));
    for (const std::string& channel : channels) append_argument(out, channel);
    session_->expect(housekeeping_, Housekeeping::kResyncTag, now);
  }

  // Connected, signed in, and Redis says "not now": told once, like a failure.
  void report_waiting(SinkHandler& handler) {
    if (!session_ || session_->state() != SessionState::kWaiting || !session_->waiting_for())
      return;
    report(*session_->waiting_for(), handler);
  }

  void report(const SessionFailure& failure, SinkHandler& handler) {
    // /readyz says what keeps us away now; the handler hears of each kind once.
    const bool is_told = reported_ && reported_class_ == failure.error_class;
    reported_ = failure.error;
    if (is_told) return;
    reported_class_ = failure.error_class;
    handler.on_sink_disconnected(failure.error, failure.error_class);
  }

  // Whose word it is that Redis is there, where that is not the configuration's: said with what came of it.
  SessionFailure located(SessionFailure failure) const {
    const bool is_told_by_sentinels = sentinels_ && is_trying_;
    const bool is_told_by_nodes = node_.role == NodeRole::kShard && !ever_connected_;
    const bool is_out_of_reach = failure.error_class == kClassConnection || failure.error_class == kClassTimeout;
    Error& error = failure.error;
    if (!is_told_by_sentinels && !is_told_by_nodes) {
      if (is_out_of_reach && !session_ && node_.role == NodeRole::kAlone && error.hint.empty()) error.hint = url_address_hint(address_);
      return failure;
    }
    if (is_told_by_sentinels && error.text.find(address_.to_string()) == std::string::npos) {
      error.text = "redis at '" + address_.to_string() + "', which the Sentinels call the master: " + error.text;
    }
    if (is_out_of_reach && !session_) tell_whose_address(error, is_told_by_sentinels ? kSentinelsAddressHint : kNodesAddressHint);
    return failure;
  }

  // The connection is of no more use. What is under way may or may not have been applied.
  void drop(const SessionFailure& why, SteadyTime now, SinkHandler& handler) {
    const SessionFailure failure = located(why);
    if (sentinels_ && is_trying_) sentinels_->doubt();
    is_trying_ = false;
    transport_.close();
    if (sentinels_) sentinels_->stop();
    session_.reset();
    is_located_ = false;
    asking_.reset();
    password_problem_.clear();
    renew_due_ = SteadyTime::max();
    broken_.reset();
    witness_.reset();
    unconfirmed_.reset();
    replicas_missing_.reset();
    silence_.reset();
    written_ = 0;
    // A connection that ends as soon as it is used must not come back at full speed for ever.
    if (announced_ && now - announced_at_ >= options_.backoff_max) backoff_ = options_.backoff_first;
    if (std::exchange(announced_, false) && failure.is_refusal) handler.on_sink_refused(failure.error);
    if (housekeeping_.overwritten) overwritten_ = std::move(*housekeeping_.overwritten);
    was_set_back_ = was_set_back_ || housekeeping_.is_set_back;
    const bool has_set_get = housekeeping_.has_set_get;
    housekeeping_ = Housekeeping();
    housekeeping_.has_set_get = has_set_get;
    record_retry_due_ = SteadyTime::min();
    const std::vector<Ticket> lost = end_works();

    if (failure.error_class == kClassCluster && node_.role == NodeRole::kAlone && !sentinels_ && address_.database == 0) {
      is_cluster_found_ = failed_ = true;
      return;
    }
    const bool is_asked_again = failure.error_class == kClassAuth && options_.credential.is_set();
    const bool person = failure.error.kind == ErrorKind::kUsage;
    if (person && !ever_connected_ && !is_passing_refusal(failure.error_class)) {
      failed_ = true;
      reported_ = failure.error;
      handler.on_sink_failed(failure.error);
      return;
    }
    retry_due_ = now + next_backoff();
    if (is_asked_again && person) {
      // It may just have changed.
      report(SessionFailure{Error{ErrorKind::kConnection, failure.error.text, password_hint(options_.credential)}, kClassAuth}, handler);
    } else {
      report(failure, handler);
    }
    for (const Ticket ticket : lost) handler.on_lost(ticket);
  }

  // Ends all work under way and returns its tickets. The pacer forgets last: a walk that ends still
  // counts itself out.
  std::vector<Ticket> end_works() {
    std::vector<Ticket> tickets;
    for (const auto& work : works_) tickets.push_back(work->ticket());
    works_.clear();
    bulk_works_ = 0;
    under_way_bytes_ = 0;
    shared_.pacer.reset();
    return tickets;
  }

  // Doubles up to its maximum, and strays by a quarter, so that many daemons do not return at once.
  std::chrono::milliseconds next_backoff() {
    const auto base = backoff_;
    backoff_ = std::min(backoff_ * 2, options_.backoff_max);
    std::uniform_real_distribution<double> jitter(0.75, 1.25);
    return std::chrono::milliseconds(
        static_cast<std::int64_t>(static_cast<double>(base.count()) * jitter(random_)));
  }

  void ask_info(SteadyTime now) {
    info_due_ = now + kInfoInterval;
    if (node_.role == NodeRole::kObserver) return;
    append_command(session_->output(), {"INFO"});
    session_->expect(housekeeping_, Housekeeping::kInfoTag, now);
    if (!session_->has_library()) {
      if (session_->may_have_library()) session_->look_for_library(now);
      return;
    }
    append_command(session_->output(), {"FCALL", "evictd_stats", "0"});
    session_->expect(housekeeping_, Housekeeping::kStatsTag, now);
  }

  void send_record(Housekeeping::Saving saving) {
    using Way = Housekeeping::Saving::Way;
    std::string& out = session_->output();
    saving.former.reset();
    const bool is_shared = shared_.context.is_record_shared;
    if ((shared_.context.is_record_ours_alone || is_shared) && !housekeeping_.is_anothers && (saving.way != Way::kSet || housekeeping_.has_set_get)) {
      saving.former = housekeeping_.former;
      if (is_shared && saving.former) saving.former = std::min<std::uint64_t>(*saving.former, 1);  // numbers of others may be lower
    }
    if (saving.way == Way::kSet) {
      append_command_head(out, saving.former ? 4 : 3);
      for (const std::string& argument : {std::string("SET"), record_key(), saving.text}) append_argument(out, argument);
      if (saving.former) append_argument(out, "GET");
    } else {
      const ScriptText& text = script(Script::kSaveRecord);
      append_command_head(out, saving.former ? 6 : 5);
      append_argument(out, saving.way == Way::kScript ? "EVALSHA" : "EVAL");
      append_argument(out, saving.way == Way::kScript ? text.sha1 : text.text);
      append_argument(out, "1");
      append_argument(out, record_key());
      append_argument(out, saving.text);
      if (saving.former) append_argument(out, *saving.former);
    }
    const std::uint64_t tag = ++housekeeping_.last_tag;
    housekeeping_.saving.emplace(tag, std::move(saving));
    session_->expect(housekeeping_, tag, last_now_);
  }

  std::string state_text() const {
    if (failed_) return "failed";
    if (stopped_) return "stopped";
    if (!session_ && asking_) return "asking for the password";
    if (!session_ && sentinels_ && sentinels_->state() == SentinelLink::State::kAsking) return "asking the sentinels";
    if (!session_)
      return transport_.state() == Transport::State::kClosed ? "waiting to reconnect"
                                                             : "connecting";
    if (session_->is_ready() && session_->record_problem()) {
      return "ready (" + session_->record_problem()->text + ")";
    }
    if (session_->is_ready() && !session_->has_library() && !shared_.context.is_deletes_only) {
      return "ready (no functions for readers: " + session_->library_problem() + ")";
    }
    if (session_->is_ready() && !password_problem_.empty()) return "ready (the password cannot be renewed: " + password_problem_ + ")";
    if (session_->is_ready()) return "ready" + skipped_text();
    return std::string(session_state_name(session_->state()));
  }

  std::string skipped_text() const {
    const Skipped& skipped = shared_.skipped;
    std::string text;
    const auto add = [&text](std::uint64_t count, std::string_view what) {
      if (count == 0) return;
      text += text.empty() ? " (left alone: " : ", ";
      text += std::to_string(count) + " " + std::string(what);
    };
    add(skipped.foreign, "members of tags that no rule may touch");
    add(skipped.forbidden, "members of tags that the ACL forbids");
    add(skipped.too_long, "names longer than 64 KiB");
    add(skipped.own_keys, "keys of evictd's own");
    if (!text.empty()) text += ")";
    if (shared_.wrong_type_tags > 0) {
      text += " (deleted " + std::to_string(shared_.wrong_type_tags) + " keys of tags that were no sets: what was to be listed there is found by nobody)";
    }
    return text;
  }

  RedisOptions options_;
  NodeOptions node_;
  RedisAddress address_;  // with Sentinels: the master's, as they told it last
  std::optional<SentinelLink> sentinels_;
  std::optional<Error> silence_;  // of the Sentinels, while connected
  bool is_located_ = false;  // of the connection that is about to be opened
  bool is_trying_ = false;   // to connect there: from then on until it is announced, or given up
  Transport transport_;
  std::optional<Session> session_;
  std::size_t written_ = 0;  // bytes at the front of the session's output that the socket has taken
  std::string input_;
  WorkShared shared_;
  std::vector<std::unique_ptr<RedisWork>> works_;
  std::size_t bulk_works_ = 0;       // of works_
  std::size_t under_way_bytes_ = 0;  // of works_
  Housekeeping housekeeping_;
  std::optional<std::optional<Record>> overwritten_;  // by the last connection: what the next one is to tell
  bool was_set_back_ = false;                   // why the last connection ended
  std::unique_ptr<Witness> witness_;            // of this connection
  std::optional<std::uint64_t> unconfirmed_;    // a record that it is to be asked about
  std::optional<Error> replicas_missing_;       // as it was told
  EvictionWatch evictions_{node_.role == NodeRole::kShard};

  bool started_ = false;
  bool stopped_ = false;
  bool failed_ = false;
  bool is_cluster_found_ = false;
  bool announced_ = false;  // on_sink_connected was called for this connection
  bool ever_connected_ = false;
  std::unique_ptr<CredentialLookup> asking_;
  SteadyTime renew_due_ = SteadyTime::max();
  std::string password_problem_;
  std::optional<SessionFailure> broken_;  // by a write outside step()
  std::optional<Error> reported_;
  std::string_view reported_class_;
  std::chrono::milliseconds backoff_ = options_.backoff_first;
  SteadyTime opened_at_{};
  SteadyTime announced_at_{};
  SteadyTime retry_due_{};
  SteadyTime info_due_ = SteadyTime::max();
  SteadyTime last_now_{};
  SteadyTime refused_until_{};
  SteadyTime record_retry_due_ = SteadyTime::min();
  std::uint64_t refused_seen_ = 0;
  std::mt19937_64 random_;
};

// What 'redis: url:' names: one server, until that says it is a node of a cluster.
class RedisFront final : public ForwardingSink {
 public:
  RedisFront(RedisOptions options, std::vector<RedisAddress> seeds)
      : ForwardingSink(nullptr), options_(std::move(options)), seeds_(std::move(seeds)) {
    if (seeds_.size() > 1) {
      replace(make_cluster_sink(options_, seeds_));
    } else {
      auto one = make_node_sink(options_, seeds_.front(), {});
      one_ = one.get();
      replace(std::move(one));
    }
  }

  void step(Now now, SinkHandler& handler) override {
    ForwardingSink::step(now, handler);
    if (one_ == nullptr || !one_->is_cluster_found()) return;
    one_ = nullptr;
    replace(make_cluster_sink(options_, seeds_));
    set_context(context_);
    start(now);
  }
  void set_context(const SinkContext& context) override {
    if (&context != &context_) context_ = context;
    ForwardingSink::set_context(context);
  }

 private:
  RedisOptions options_;
  std::vector<RedisAddress> seeds_;
  SinkContext context_;
  NodeSink* one_ = nullptr;  // the other one, while it is one server
};

}  // namespace

std::unique_ptr<NodeSink> make_node_sink(RedisOptions options, RedisAddress address, NodeOptions node) {
  return std::make_unique<RedisSink>(std::move(options), std::move(address), std::move(node));
}

std::string password_hint(const CredentialSource& credential) {
  return "the password came from " + credential.to_string() + ": does it belong to the user of 'redis: url:'?";
}

SentinelOptions sentinel_options(const RedisOptions& options, const RedisAddress& address) {
  SentinelOptions made;
  made.master_name = address.host;
  made.sentinels = options.sentinels;
  made.password = options.sentinel_password;
  made.tls = address.tls;
  made.tls_files = {options.tls_ca_file, options.tls_cert_file, options.tls_key_file};
  made.deadline = std::min(made.deadline, options.connect_timeout);
  return made;
}

// Every marker has braces in its name (scripts.h), this has none: no key that anybody caches has the record as its marker.
std::string record_key(const std::string& record_name, const std::string& of) {
  return of.empty() ? "evictd:record:" + record_name : "evictd:record@" + of + ":" + record_name;
}

Result<std::unique_ptr<Sink>> make_redis_sink(RedisOptions options) {
  auto addresses = parse_redis_urls(options.url);
  if (!addresses) return tl::unexpected(std::move(addresses.error()));
  return std::unique_ptr<Sink>(std::make_unique<RedisFront>(std::move(options), std::move(*addresses)));
}

}  // namespace evictd
