#include "daemon/sinks/http/http_sink.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <list>
#include <map>
#include <random>
#include <unordered_map>

#include "mapping/check.h"

namespace evictd {
namespace {

using std::chrono::milliseconds;

// Reads of the record that are our own, not the lane's.
constexpr std::uint64_t kOwnLoad = 1ULL << 63U;
constexpr milliseconds kGatherInterval{5};  // between two requests of keys that are not full
constexpr milliseconds kWaitUntold{5'000};  // for so long a service that puts purges off, or does not answer, is not told of

// What the sink of the record says, gathered during its step and looked at after it.
struct StoreEvents final : SinkHandler {
  std::optional<SinkConnected> connected;
  std::optional<std::pair<Error, std::string_view>> disconnected;
  std::optional<Error> refused;
  std::optional<Error> failed;
  std::optional<std::optional<Error>> replicas_missing;
  std::vector<std::uint64_t> saved;
  std::vector<std::uint64_t> confirmed;
  std::vector<std::pair<std::uint64_t, std::optional<Record>>> loaded;

  void on_sink_connected(const SinkConnected& now) override { connected = now; }
  void on_sink_disconnected(const Error& error, std::string_view error_class) override {
    connected.reset();
    disconnected = {error, error_class};
  }
  void on_sink_refused(const Error& error) override { refused = error; }
  void on_sink_failed(const Error& error) override { failed = error; }
  void on_done(Ticket, const Outcome&) override {}
  void on_lost(Ticket) override {}
  void on_replicas_missing(const std::optional<Error>& error) override { replicas_missing = error; }
  void on_record_saved(std::uint64_t sequence) override { saved.push_back(sequence); }
  void on_record_confirmed(std::uint64_t sequence) override { confirmed.push_back(sequence); }
  void on_record_loaded(std::uint64_t sequence, const std::optional<Record>& record) override {
    loaded.emplace_back(sequence, record);
  }
};

class HttpSink final : public Sink {
 public:
  HttpSink(HttpSinkOptions options, std::unique_ptr<Sink> store)
      : options_(std::move(options)),
        service_(options_.service),
        client_(options_.client),
        store_(std::move(store)),
        bucket_(options_.service.rate),
        random_(std::random_device{}()) {
    backoff_ = options_.backoff_first;
    throttle_ = options_.throttled_first;
    if (service_.can_be_probed()) {
      probe_ = Request{};
      probe_->keys = {{kProbeKey, {}}};
    }
    EVICTD_CHECK(options_.on_gap.what != OnGap::What::kAll || service_.can_purge_all());
  }

  SinkTraits traits() const override {
    SinkTraits traits;
    traits.has_counters = false;
    traits.is_edge = true;
    traits.service = service_.identity();
    return traits;
  }

  void start(Now now) override {
    EVICTD_CHECK(!started_);
    started_ = true;
    now_ = now;
    store_->start(now);
  }

  void step(Now now, SinkHandler& handler) override {
    if (!started_ || stopped_ || failed_) return;
    now_ = now;
    take_store(handler);
    if (failed_) return;
    for (HttpClient::Finished& finished : client_.step()) take_answer(finished, handler);
    tell_done(handler);
    announce(handler);
    send();
  }

  void wait_for(Waiting& waiting) override {
    if (!started_ || stopped_ || failed_) return;
    send();  // what was submitted in this turn leaves before the loop sleeps
    store_->wait_for(waiting);
    client_.wait_for(waiting);
    if (!done_.empty()) waiting.wake_at(SteadyTime::min());
    if (wants_to_send() && requests_.size() < options_.requests_max) {
      waiting.wake_at(std::max({pause_until_, bucket_.next(now_.steady), next_due()}));
    }
  }

  void set_context(const SinkContext& context) override {
    SinkContext of_store = context;
    of_store.channels.clear();  // their subscribers are told by the cache itself
    of_store.needs_one_server.clear();  // it holds the record and nothing that rules ask for
    store_->set_context(of_store);
  }

  bool has_room(Urgency urgency) const override {
    if (!announced_) return false;
    if (urgency == Urgency::kBulk) return bulk_ < options_.bulk_max;
    return works_.size() - bulk_ < options_.orders_max && wanted_.size() < options_.keys_max;
  }

  void submit(Ticket ticket, const Order& order) override {
    EVICTD_CHECK(has_room(order.urgency()));
    EVICTD_CHECK(order.target == Target::kSurrogates || order.target == Target::kPatterns);
    Work& work = works_[ticket];
    work.is_bulk = order.target == Target::kPatterns;
    if (work.is_bulk) {
      ++bulk_;
      for (const PatternRef& ref : order.patterns) work.outcome.by_pattern.push_back(want_pattern(ticket, work, *ref.pattern));
      for (const Counts& counts : work.outcome.by_pattern) work.outcome += counts;
    } else {
      for (std::size_t i = 0; i < order.texts->size(); ++i) {
        want(ticket, work, spell_surrogate_key(order.texts->text(i), options_.service.kind));
      }
      work.outcome.deleted = order.texts->size();
    }
    if (work.left == 0) done_.push_back(ticket);
  }

  void save_record(const Record& record) override { store_->save_record(record); }
  void load_record(std::uint64_t sequence) override { store_->load_record(sequence); }

  void stop() override {
    stopped_ = true;
    announced_ = false;
    client_.cancel_all();
    requests_.clear();
    works_.clear();
    store_->stop();
  }

  SinkStatus status() const override {
    SinkStatus status;
    status.connected = announced_;
    status.state = state_text();
    if (problem_) {
      status.problem = problem_->text;
    } else if (put_off_ && now_.steady - put_off_->first >= kWaitUntold) {
      status.problem = put_off_text();
    } else if (const auto silent = silent_for(); silent >= kWaitUntold) {
      status.problem = fmt::format("{} has not answered for {} s", service_.address(), std::chrono::floor<std::chrono::seconds>(silent).count());
    }
    status.held_up = store_->status().held_up;
    EdgeStatus& edge = status.edge.emplace();
    edge.requests = {{"done", counts_.done}, {"partly", counts_.partly}, {"throttled", counts_.throttled},
                     {"refused", counts_.refused}, {"failed", counts_.failed}};
    edge.keys_purged = counts_.keys;
    edge.purges_of_all = counts_.all;
    edge.gaps_ignored = counts_.ignored;
    edge.backlog_keys = wanted_.size();
    return status;
  }

 private:
  struct Work {
    bool is_bulk = false;
    std::size_t left = 0;  // keys, and the purge of all, that it waits for
    Outcome outcome;
  };
  // A key that is wanted, with all who want it.
  struct Want {
    std::string key;
    std::vector<Ticket> tickets;
  };
  struct Request {
    std::vector<Want> keys;  // none: everything
    std::vector<Ticket> all; // who wants everything
    bool is_all = false;
    int tries = 0;
    SteadyTime sent_at{};
    std::vector<std::string> names() const {
      std::vector<std::string> names;
      for (const Want& want : keys) names.push_back(want.key);
      return names;
    }
  };

  // ---- What is wanted

  void want(Ticket ticket, Work& work, std::string key) {
    const auto known = by_key_.find(key);
    if (known != by_key_.end()) {
      if (known->second->tickets.back() == ticket) return;  // two keys of one spelling: a hash
      known->second->tickets.push_back(ticket);
    } else {
      wanted_.push_back({std::move(key), {ticket}});
      by_key_.emplace(wanted_.back().key, std::prev(wanted_.end()));
    }
    ++work.left;
  }

  Counts want_pattern(Ticket ticket, Work& work, const Pattern& pattern) {
    Counts counts;
    if (!pattern.exact.empty()) {
      want(ticket, work, spell_surrogate_key(pattern.exact, options_.service.kind));
      counts.deleted = 1;
      return counts;
    }
    switch (options_.on_gap.what) {
      case OnGap::What::kAll:
        counts.deleted = 1;
        if (all_wanted_.empty() || all_wanted_.back() != ticket) {
          all_wanted_.push_back(ticket);
          ++work.left;
        }
        break;
      case OnGap::What::kKeys:
        for (const std::string& key : options_.on_gap.keys) {
          want(ticket, work, spell_surrogate_key(key, options_.service.kind));
        }
        counts.deleted = options_.on_gap.keys.size();
        break;
      case OnGap::What::kIgnore:
        counts.kept = 1;
        ++counts_.ignored;
        break;
    }
    return counts;
  }

  // ---- What leaves

  bool wants_to_send() const {
    if (!store_connected_) return false;
    if (probe_) return requests_.empty();
    return announced_ && (!again_.empty() || !all_wanted_.empty() || !wanted_.empty());
  }

  // One alone leaves at once. Of thousands a second each would cost a request of its own, to an edge that takes hundreds of
  // keys in one.
  SteadyTime next_due() const {
    const bool is_gathered = !probe_ && again_.empty() && all_wanted_.empty() && wanted_.size() < options_.service.keys_max;
    return is_gathered ? gathered_at_ + kGatherInterval : SteadyTime::min();
  }

  void send() {
    while (wants_to_send() && requests_.size() < options_.requests_max && pause_until_ <= now_.steady &&
           bucket_.next(now_.steady) <= now_.steady && next_due() <= now_.steady) {
      bucket_.take(now_.steady);
      Request request;
      if (probe_) {
        request.keys = probe_->keys;
        request.is_all = probe_->is_all;
        request.tries = probe_->tries;
      } else if (!again_.empty()) {
        request = std::move(again_.front());
        again_.pop_front();
      } else if (!all_wanted_.empty()) {
        request.is_all = true;
        request.all = std::exchange(all_wanted_, {});
      } else {
        gather(request);
      }
      const std::uint64_t id = ++last_request_;
      request.sent_at = now_.steady;
      const HttpCall call = request.is_all ? service_.purge_all() : service_.purge(request.names());
      client_.begin(id, call);
      requests_.emplace(id, std::move(request));
    }
  }

  void gather(Request& request) {
    gathered_at_ = now_.steady;
    std::vector<std::string_view> keys;
    for (const Want& each : wanted_) {
      if (keys.size() == options_.service.keys_max) break;
      keys.push_back(each.key);
    }
    const std::size_t count = keys_of_one_request(keys, options_.service);
    for (std::size_t i = 0; i < count; ++i) {
      by_key_.erase(wanted_.front().key);
      request.keys.push_back(std::move(wanted_.front()));
      wanted_.pop_front();
    }
  }

  // ---- What comes back

  void take_answer(HttpClient::Finished& finished, SinkHandler& handler) {
    const auto place = requests_.find(finished.id);
    if (place == requests_.end()) return;  // of before a failure
    Request request = std::move(place->second);
    requests_.erase(place);
    EdgeVerdict verdict;
    if (finished.answer) {
      verdict = service_.judge(*finished.answer, request.names(), request.is_all, now_.system);
    } else {
      verdict.problem = "does not answer: " + service_.without_secrets(std::move(finished.problem));
      verdict.error_class = finished.error_class;
    }
    if (probe_) return take_probe(std::move(request), verdict, handler);
    switch (verdict.kind) {
      case EdgeVerdict::Kind::kDone:
        ++counts_.done;
        if (request.is_all) ++counts_.all;
        throttle_ = options_.throttled_first;
        is_throttled_ = false;
        if (pause_until_ <= now_.steady) put_off_.reset();
        for (const Ticket ticket : request.all) one_done(ticket);
        for (const Want& want : request.keys) key_done(want);
        return;
      case EdgeVerdict::Kind::kPartly: {
        ++counts_.partly;
        std::vector<Want> rest;
        for (std::size_t i = 0; i < request.keys.size(); ++i) {
          if (verdict.done[i]) {
            key_done(request.keys[i]);
          } else {
            rest.push_back(std::move(request.keys[i]));
          }
        }
        request.keys = std::move(rest);
        return failed(std::move(request), verdict, handler);
      }
      case EdgeVerdict::Kind::kThrottled:
        ++counts_.throttled;
        throttled(verdict);
        again_.push_back(std::move(request));
        return;
      case EdgeVerdict::Kind::kRefused:
        ++counts_.refused;
        return edge_fails(std::move(request), verdict, handler);
      case EdgeVerdict::Kind::kFailed:
        ++counts_.failed;
        return failed(std::move(request), verdict, handler);
    }
  }

  void throttled(const EdgeVerdict& verdict) {
    put_off(verdict);
    // 0, or a date that is over (its clock need not be ours), does not say when: asked again at once, it would be asked for ever.
    const bool says_when = verdict.retry_after && *verdict.retry_after > milliseconds(0);
    // Those that were under way together are refused together: that is one reason to wait, not several.
    if (std::exchange(is_throttled_, true) && pause_until_ > now_.steady && !says_when) return;
    const milliseconds wait = says_when ? std::max(*verdict.retry_after, milliseconds(100)) : strayed(throttle_);
    if (!says_when) throttle_ = std::min(throttle_ * 2, options_.throttled_max);
    pause_until_ = std::max(pause_until_, now_.steady + wait);
  }

  void failed(Request request, const EdgeVerdict& verdict, SinkHandler& handler) {
    if (++request.tries >= options_.tries_max) return edge_fails(std::move(request), verdict, handler);
    put_off(verdict);
    const milliseconds wait = strayed(options_.retry_first * (1 << (request.tries - 1)));
    pause_until_ = std::max(pause_until_, now_.steady + std::max(wait, verdict.retry_after.value_or(milliseconds(0))));
    again_.push_back(std::move(request));
  }

  void put_off(const EdgeVerdict& verdict) {
    if (!put_off_) put_off_.emplace(now_.steady, "");
    put_off_->second = verdict.problem;
  }

  // It has not purged for so long what it was asked to, and what is kept there may be stale for as long as it likes.
  std::string put_off_text() const {
    const auto seconds = std::chrono::ceil<std::chrono::seconds>(std::max(pause_until_ - now_.steady, SteadyTime::duration(0))).count();
    return fmt::format("{} {}; it is asked again in {} s", service_.address(), put_off_->second, seconds);
  }

  // How long the request that has waited longest has done so.
  SteadyTime::duration silent_for() const {
    SteadyTime::duration longest{0};
    for (const auto& [id, request] : requests_) longest = std::max(longest, now_.steady - request.sent_at);
    return longest;
  }

  void take_probe(Request request, const EdgeVerdict& verdict, SinkHandler& handler) {
    switch (verdict.kind) {
      case EdgeVerdict::Kind::kDone:
        ++counts_.done;
        probe_.reset();
        problem_.reset();
        put_off_.reset();
        is_throttled_ = false;
        backoff_ = options_.backoff_first;
        throttle_ = options_.throttled_first;
        ask_for_record();
        return;
      case EdgeVerdict::Kind::kThrottled:
        ++counts_.throttled;
        throttled(verdict);
        return;
      case EdgeVerdict::Kind::kRefused:
        ++counts_.refused;
        break;
      case EdgeVerdict::Kind::kPartly:
      case EdgeVerdict::Kind::kFailed:
        ++counts_.failed;
    }
    edge_fails(std::move(request), verdict, handler);
  }

  // The service does not do what it is asked. What is under way may or may not be done.
  void edge_fails(Request request, const EdgeVerdict& verdict, SinkHandler& handler) {
    drop_requests();
    request.all.clear();
    for (Want& want : request.keys) want.tickets.clear();
    request.tries = 0;
    probe_ = std::move(request);
    pause_until_ = now_.steady + std::max(strayed(backoff_), verdict.retry_after.value_or(milliseconds(0)));
    backoff_ = std::min(backoff_ * 2, options_.backoff_max);
    const bool is_refused = verdict.kind == EdgeVerdict::Kind::kRefused;
    Error error{ErrorKind::kConnection,
                fmt::format("{} {}", service_.address(), verdict.problem),
                is_refused ? "its credential may not purge: mend it in the configuration and restart evictd"
                           : "what is owed is purged as soon as it answers; no other cache waits for it"};
    lose(error, verdict.error_class, handler);
  }

  // What is under way and what waits; the orders they belong to are lost next.
  void drop_requests() {
    client_.cancel_all();
    requests_.clear();
    again_.clear();
    all_wanted_.clear();
    wanted_.clear();
    by_key_.clear();
    done_.clear();
  }

  // ---- Connected, or not

  void lose(const Error& error, std::string_view error_class, SinkHandler& handler) {
    const bool is_news = announced_ || !problem_ || reported_class_ != error_class;
    problem_ = error;
    reported_class_ = std::string(error_class);
    announced_ = false;
    has_record_ = false;
    const auto lost = std::exchange(works_, {});
    bulk_ = 0;
    if (is_news) handler.on_sink_disconnected(error, reported_class_);
    for (const auto& [ticket, work] : lost) handler.on_lost(ticket);
  }

  void take_store(SinkHandler& handler) {
    StoreEvents events;
    store_->step(now_, events);
    if (events.failed) {
      failed_ = true;
      problem_ = *events.failed;
      handler.on_sink_failed(std::move(*events.failed).within("its record"));
      return;
    }
    if (events.refused && announced_) handler.on_sink_refused(*events.refused);
    if (events.disconnected) {
      store_connected_.reset();
      drop_requests();
      Error error = std::move(events.disconnected->first).within("its record");
      store_problem_ = true;
      lose(error, events.disconnected->second, handler);
    }
    if (events.connected) {
      store_connected_ = std::move(events.connected);
      if (store_problem_) problem_.reset();
      store_problem_ = false;
      has_record_ = true;  // read just now
    }
    for (const std::uint64_t sequence : events.saved) handler.on_record_saved(sequence);
    for (const std::uint64_t sequence : events.confirmed) handler.on_record_confirmed(sequence);
    if (events.replicas_missing) handler.on_replicas_missing(*events.replicas_missing);
    for (auto& [sequence, record] : events.loaded) {
      if ((sequence & kOwnLoad) == 0) {
        if (announced_) handler.on_record_loaded(sequence, record);
      } else if (sequence == (kOwnLoad | own_load_) && store_connected_) {
        store_connected_->record = std::move(record);
        has_record_ = true;
      }
    }
  }

  // It may have been written while the service was away.
  void ask_for_record() {
    if (!store_connected_) return;
    has_record_ = false;
    store_->load_record(kOwnLoad | ++own_load_);
  }

  void announce(SinkHandler& handler) {
    if (announced_ || probe_ || !store_connected_ || !has_record_) return;
    announced_ = true;
    problem_.reset();
    handler.on_sink_connected(*store_connected_);
  }

  void key_done(const Want& want) {
    ++counts_.keys;
    for (const Ticket ticket : want.tickets) one_done(ticket);
  }

  void one_done(Ticket ticket) {
    const auto work = works_.find(ticket);
    EVICTD_CHECK(work != works_.end() && work->second.left > 0);
    if (--work->second.left == 0) done_.push_back(ticket);
  }

  void tell_done(SinkHandler& handler) {
    // Telling may submit more, of which some is done at once: that is told in the next step.
    for (const Ticket ticket : std::exchange(done_, {})) {
      const auto place = works_.find(ticket);
      if (place == works_.end()) continue;
      const Work work = std::move(place->second);
      works_.erase(place);
      if (work.is_bulk) --bulk_;
      handler.on_done(ticket, work.outcome);
    }
  }

  // Strays by a quarter, so that many daemons do not return at once.
  milliseconds strayed(milliseconds base) {
    std::uniform_real_distribution<double> jitter(0.75, 1.25);
    return milliseconds(static_cast<std::int64_t>(static_cast<double>(base.count()) * jitter(random_)));
  }

  std::string state_text() const {
    if (failed_) return "failed";
    if (stopped_) return "stopped";
    if (!store_connected_) return "its record cannot be reached";
    const bool pauses = pause_until_ > now_.steady;
    const auto seconds = std::chrono::ceil<std::chrono::seconds>(pause_until_ - now_.steady).count();
    if (is_throttled_ && pauses) return fmt::format("throttled (429): asks again in {} s", seconds);
    if (probe_) return pauses ? fmt::format("failing: asks again in {} s", seconds) : "asking whether it answers";
    return announced_ ? "ready" : "reading the record";
  }

  const HttpSinkOptions options_;
  const Service service_;
  HttpClient client_;
  const std::unique_ptr<Sink> store_;
  TokenBucket bucket_;
  Now now_{};

  bool started_ = false;
  bool stopped_ = false;
  bool failed_ = false;
  bool announced_ = false;  // on_sink_connected() was called, and no disconnection since

  // The record's store.
  std::optional<SinkConnected> store_connected_;
  bool has_record_ = false;  // what store_connected_ has is as it stands now
  bool store_problem_ = false;
  std::uint64_t own_load_ = 0;

  // The service. While it fails, or nothing is known of it yet, `probe_` is all that is asked.
  std::optional<Request> probe_;
  std::optional<Error> problem_;
  std::string reported_class_;
  SteadyTime pause_until_{};
  std::optional<std::pair<SteadyTime, std::string>> put_off_;  // since when it purges nothing, although it is asked, and its last answer
  SteadyTime gathered_at_{};  // when keys left last
  bool is_throttled_ = false;
  milliseconds backoff_{0};
  milliseconds throttle_{0};

  // Orders, and what they want.
  std::unordered_map<Ticket, Work> works_;
  std::size_t bulk_ = 0;
  std::list<Want> wanted_;
  std::unordered_map<std::string_view, std::list<Want>::iterator> by_key_;  // views into wanted_
  std::vector<Ticket> all_wanted_;
  std::deque<Request> again_;
  std::map<std::uint64_t, Request> requests_;
  std::uint64_t last_request_ = 0;
  std::vector<Ticket> done_;

  struct {
    std::uint64_t done = 0, partly = 0, throttled = 0, refused = 0, failed = 0;
    std::uint64_t keys = 0, all = 0, ignored = 0;
  } counts_;
  std::mt19937_64 random_;
};

}  // namespace

std::unique_ptr<Sink> make_http_sink(HttpSinkOptions options, std::unique_ptr<Sink> store) {
  return std::make_unique<HttpSink>(std::move(options), std::move(store));
}

}  // namespace evictd
