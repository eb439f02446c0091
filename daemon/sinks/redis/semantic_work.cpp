#include "daemon/sinks/redis/semantic_work.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <utility>

#include "daemon/sinks/redis/patterns.h"
#include "daemon/sinks/redis/replies.h"
#include "daemon/sinks/redis/resp.h"
#include "daemon/sinks/redis/semantic.h"
#include "daemon/sinks/redis/walk_call.h"
#include "mapping/check.h"

namespace evictd {
namespace {

// Elements that one search may bring: few at first, for most orders mean few; and so that their names fit into a reply.
constexpr std::size_t kFirstCount = 64;
constexpr std::size_t kCountMax = 1024;
constexpr std::size_t kLongNamesCount = 128;
constexpr std::size_t kFoundBytes = 1024 * 1024;
// Taken out of a graph by one page: each costs Redis a fifth of a millisecond and more.
constexpr std::size_t kRemovedMax = 16;
constexpr std::size_t kLightRemoved = 4;
// A scan of so many elements is a heavy call.
constexpr std::uint64_t kLightScan = 5'000;
constexpr std::chrono::seconds kRetry{1};
// Searches that found elements none of which could be removed: somebody else's doing, or a server that lies.
constexpr std::size_t kBarrenMax = 10;

// Where a set lies that is being emptied.
std::string trash_of(const std::string& index) { return std::string(kOwnPrefix) + "cleared:" + index; }

struct Task {
  const SemanticInfo* info = nullptr;
  SemanticOrder order;
  bool is_clear = false;     // the index, whole
  std::size_t pattern = 0;   // in Outcome::by_pattern; of a clear that a pattern asked for
  bool is_of_pattern = false;
};

class SemanticWork final : public RedisWork {
 public:
  SemanticWork(Ticket ticket, const Order& order, WorkShared& shared)
      : RedisWork(ticket, Command{}, shared), order_(order), call_(order.urgency(), shared) {
    shared.semantic.is_used = true;
    if (order.target == Target::kPatterns) outcome_.by_pattern.resize(order.patterns.size());
  }

  void pump(Session& session, SteadyTime now) override {
    if (!call_.is_free(now)) return;
    if (retry_at_ && now < *retry_at_) return;
    retry_at_.reset();
    now_ = now;
    while (stage_ != Stage::kDone && stage_ != Stage::kStopped && !retry_at_) {
      if (send(session, now)) return;
    }
  }

  bool on_reply(std::uint64_t, Reply&& reply) override {
    EVICTD_CHECK(!awaited_.empty());
    const Awaited awaited = awaited_.front();
    awaited_.pop_front();
    if (!take(awaited, std::move(reply))) return false;
    problem_.clear();
    if (awaited_.empty()) answered();
    return true;
  }

  bool on_error(std::uint64_t, std::string_view text, std::string& about) override {
    EVICTD_CHECK(!awaited_.empty());
    const Awaited awaited = awaited_.front();
    awaited_.pop_front();
    about = fmt::format("it was about the index '{}'", task_.info->index);
    if (!take_error(awaited, text)) return false;
    if (awaited_.empty()) answered();
    return true;
  }

  bool is_finished() const override { return stage_ == Stage::kDone; }
  bool is_bulk() const override { return order_.target == Target::kPatterns; }
  bool wants_wake() const override { return call_.wants_wake(); }
  std::optional<SteadyTime> wake_at() const override { return retry_at_; }
  std::string problem() const override { return problem_; }

 private:
  enum class Stage { kNext, kInspect, kSearch, kRemove, kRename, kDrain, kStopped, kDone };
  enum class Awaited { kInspected, kFound, kKeys, kRemoved, kRenamed, kDrawn };

  bool is_vset() const { return task_.info->engine == SemanticEngine::kVset; }
  bool is_near() const { return !searched_vector().empty(); }
  // What is looked for; empty: whatever passes the filter.
  std::string_view searched_vector() const { return by_filter_ ? std::string_view() : std::string_view(task_.order.vector); }
  std::string_view removed_from() const { return is_draining_ ? std::string_view(trash_) : std::string_view(task_.info->index); }

  // False: nothing was sent, and the stage has changed.
  bool send(Session& session, SteadyTime now) {
    std::string& out = session.output();
    switch (stage_) {
      case Stage::kNext:
        next_task();
        return false;
      case Stage::kInspect:
        append_command(out, {is_vset() ? "VINFO" : "FT.INFO", task_.info->index});
        expect(session, Awaited::kInspected, now);
        return true;
      case Stage::kSearch:
        return send_search(session, now);
      case Stage::kRemove:
        return send_remove(session, now);
      case Stage::kRename:
        append_command(out, {"RENAMENX", task_.info->index, trash_});
        expect(session, Awaited::kRenamed, now);
        return true;
      case Stage::kDrain:
        append_command(out, {"VRANDMEMBER", trash_, std::to_string(count_)});
        expect(session, Awaited::kDrawn, now);
        return true;
      case Stage::kStopped:
      case Stage::kDone:
        break;
    }
    return true;
  }

  // True also when the pacer says "later".
  bool send_search(Session& session, SteadyTime now) {
    std::string& out = session.output();
    const bool is_exact = is_vset() && (!is_near() || set_.size <= kExactNearMax);
    if (!call_.may_send(is_exact && set_.size > kLightScan, now)) return true;
    ++shared_.semantic.searches;
    const std::size_t effort = order_.act == Act::kInvalidate && !order_.is_settle ? kSearchEffort : kSettleEffort;
    if (is_vset()) {
      const std::string any = is_near() ? std::string() : any_vector(set_.dimensions);
      append_similar(out, *task_.info, is_near() ? searched_vector() : std::string_view(any), count_, filter_.text, is_exact, is_near(), effort);
    } else {
      append_search(out, *task_.info, index_, searched_vector(), count_, filter_.text, effort);
    }
    expect(session, Awaited::kFound, now);
    return true;
  }

  // Keys first: an element that is gone would not lead to them again.
  bool send_remove(Session& session, SteadyTime now) {
    if (names_.empty()) {
      after_page();
      return false;
    }
    const std::size_t page = std::min(names_.size(), is_vset() ? kRemovedMax : kLightKeys);
    if (!call_.may_send(is_vset() && page > kLightRemoved && set_.size > kExactNearMax, now)) return true;
    std::string& out = session.output();
    std::vector<std::string> keys;
    for (std::size_t i = 0; i < page; ++i) {
      for (std::size_t key = 0; key < task_.info->keys.size(); ++key) {
        std::string name = task_.info->element_key(key, names_[i]);
        if (is_own_key(name) || name.size() > kKeyBytesMax) {
          ++shared_.skipped.own_keys;
        } else {
          keys.push_back(std::move(name));
        }
      }
    }
    if (!keys.empty()) {
      append_command_head(out, 1 + keys.size());
      append_argument(out, "UNLINK");
      for (const std::string& key : keys) append_argument(out, key);
      keys_asked_ = keys.size();
      expect(session, Awaited::kKeys, now);
    }
    for (std::size_t i = 0; i < page; ++i) {
      if (is_vset()) {
        append_command(out, {"VREM", removed_from(), names_[i]});
      } else {
        append_command(out, {"UNLINK", names_[i]});
      }
      expect(session, Awaited::kRemoved, now);
    }
    names_.erase(names_.begin(), names_.begin() + static_cast<std::ptrdiff_t>(page));
    return true;
  }

  void expect(Session& session, Awaited awaited, SteadyTime now) {
    if (awaited_.empty()) {
      call_.sent(session, *this, 0, now);
    } else {
      session.expect(*this, 0, now);
    }
    awaited_.push_back(awaited);
  }

  void answered() { call_.answered(); }

  // ---- Tasks

  void next_task() {
    const std::size_t count = order_.target == Target::kPatterns ? order_.patterns.size() : order_.texts->size();
    if (next_ == count) {
      stage_ = Stage::kDone;
      return;
    }
    task_ = Task{};
    if (order_.target == Target::kPatterns) {
      const PatternRef& ref = order_.patterns[next_];
      task_.info = &ref.rule->semantic[ref.pattern->entry];
      task_.order.values.resize(task_.info->attributes.size());
      task_.is_clear = task_.is_of_pattern = true;
      task_.pattern = next_;
    } else {
      const std::vector<SemanticInfo>& entries = order_.rule->semantic;
      std::optional<SemanticOrder> read = read_semantic_order(order_.texts->text(next_), entries);
      EVICTD_CHECK(read);
      task_.info = &entries[read->entry];
      task_.order = std::move(*read);
    }
    ++next_;
    filter_ = {};
    by_filter_ = is_draining_ = has_more_ = false;
    removed_ = barren_ = total_ = 0;
    is_rename_due_ = false;
    count_ = kFirstCount;
    trash_ = trash_of(task_.info->index);
    stage_ = Stage::kInspect;
  }

  void task_done() { stage_ = Stage::kNext; }

  void count(std::uint64_t deleted, std::uint64_t absent) {
    outcome_.deleted += deleted;
    outcome_.absent += absent;
    if (!task_.is_of_pattern) return;
    outcome_.by_pattern[task_.pattern].deleted += deleted;
    outcome_.by_pattern[task_.pattern].absent += absent;
  }

  // What is to be searched for, now that the index is known.
  void begin_search(std::uint64_t dimensions, bool has_scores) {
    by_filter_ = task_.is_clear || !task_.info->is_near();
    if (task_.is_clear) return clear();
    filter_ = is_vset() ? vector_set_filter(*task_.info, task_.order) : search_filter(*task_.info, task_.order, index_);
    if (filter_.is_impossible) return task_done();
    stage_ = Stage::kSearch;
    if (!filter_.is_whole) ++shared_.semantic.unwritable;
    if (!task_.info->is_near()) {
      if (!filter_.is_whole) overflow("a value of 'where' cannot be written in a filter");
      return;
    }
    if (task_.order.vector.empty()) {
      by_filter();
    } else if (task_.order.vector.size() != dimensions * sizeof(float)) {
      ++shared_.semantic.dimensions;
      overflow(fmt::format("the row's vector has {} dimensions, the index has {}", task_.order.vector.size() / sizeof(float), dimensions));
    } else if (!has_scores) {
      ++shared_.semantic.no_scores;
      overflow(fmt::format("scores of a set of quantisation '{}' are no cosines", set_.quantisation));
    }
  }

  // Whatever passes `where`, whatever its vector; all of the index where there is none.
  void by_filter() {
    by_filter_ = true;
    count_ = kLongNamesCount;
    if (filter_.text.empty()) {
      clear();
    } else {
      stage_ = Stage::kSearch;
    }
  }

  void overflow(const std::string& why) {
    if (task_.info->on_overflow == SemanticOverflow::kStop) {
      shared_.fatal = Error{ErrorKind::kFatal,
                            fmt::format("{}: index '{}': {}, and the order says on_overflow: stop", task_.info->place.to_string(),
                                        task_.info->index, why),
                            "raise 'limit', or choose on_overflow: clear"};
      stage_ = Stage::kStopped;
      return;
    }
    by_filter();
  }

  void clear() {
    ++shared_.semantic.cleared;
    by_filter_ = true;
    filter_ = {};
    count_ = kLongNamesCount;
    stage_ = is_vset() ? Stage::kRename : Stage::kSearch;
  }

  // All that one search found is gone.
  void after_page() {
    if (is_draining_) {
      stage_ = Stage::kDrain;
      return;
    }
    if (removed_ == 0 && ++barren_ == kBarrenMax) return wait(fmt::format("elements of index '{}' are found and cannot be removed", task_.info->index));
    if (removed_ > 0) barren_ = 0;
    removed_ = 0;
    // Who adds faster than we remove is met again by the second pass.
    if (has_more_ && total_ <= 2 * known_size_ + kCountMax) {
      stage_ = Stage::kSearch;
    } else {
      task_done();
    }
  }

  // ---- Answers

  bool take(Awaited awaited, Reply&& reply) {
    switch (awaited) {
      case Awaited::kInspected:
        return is_vset() ? take_vector_set(reply) : take_search_index(reply);
      case Awaited::kFound:
        return take_found(reply);
      case Awaited::kKeys: {
        const auto deleted = read_count(reply, keys_asked_);
        if (!deleted) return false;
        shared_.semantic.keys += *deleted;
        return true;
      }
      case Awaited::kRemoved: {
        const auto removed = read_count(reply, 1);
        if (!removed) return false;
        removed_ += *removed;
        count(*removed, 1 - *removed);
        return true;
      }
      case Awaited::kRenamed: {
        const auto renamed = read_count(reply, 1);
        if (!renamed) return false;
        // What an earlier clearing left is emptied first.
        is_rename_due_ = *renamed == 0;
        is_draining_ = true;
        stage_ = Stage::kDrain;
        return true;
      }
      case Awaited::kDrawn:
        return take_drawn(reply);
    }
    return false;
  }

  bool take_vector_set(const Reply& reply) {
    const auto read = read_vector_set(reply);
    if (!read) return false;
    if (!read->set) {
      set_ = {};
      if (task_.is_clear) {  // there may be what an earlier clearing left
        is_draining_ = true;
        stage_ = Stage::kDrain;
      } else {
        task_done();
      }
      return true;
    }
    set_ = *read->set;
    known_size_ = set_.size;
    begin_search(set_.dimensions, set_.margin.has_value());
    return true;
  }

  bool take_search_index(const Reply& reply) {
    auto read = read_search_index(reply);
    if (!read) return false;
    index_ = std::move(*read);
    known_size_ = index_.documents;
    if (std::string problem = task_.is_clear ? std::string() : search_index_problem(*task_.info, index_); !problem.empty()) {
      wait(std::move(problem));
    } else if (index_.is_indexing) {
      wait(fmt::format("index '{}' is being built: not everything is found yet", task_.info->index));
    } else {
      const bool has_vector = task_.info->is_near() && !task_.is_clear;
      begin_search(has_vector ? index_.fields.at(vector_field(*task_.info, index_)).dimensions : 0, true);
    }
    return true;
  }

  bool take_found(const Reply& reply) {
    const auto found = is_vset() ? read_similar(reply, is_near()) : read_search(reply, is_near());
    if (!found || found->size() > count_) return false;
    shared_.skipped.too_long += found->too_long;
    const double margin = is_vset() ? set_.margin.value_or(0) : kSearchMargin;
    std::size_t bytes = 0;
    bool is_near_end = false;
    names_.clear();
    for (const FoundElement& element : found->elements) {
      bytes += element.name.size() + 1;
      if (is_near() && element.similarity < task_.info->min_similarity - margin) {
        is_near_end = found->is_ordered;
        continue;
      }
      if (!is_vset() && is_own_key(element.name)) continue;
      names_.push_back(element.name);
    }
    // A page of our own keys alone would come again and again: what is not removed stays among what is found.
    has_more_ = found->size() == count_ && !is_near_end && !names_.empty();
    if (!found->elements.empty()) {
      const std::size_t fitting = std::max(kFoundBytes / (bytes / found->elements.size() + 1), kLongNamesCount);
      count_ = std::min({fitting, 4 * count_, kCountMax});
    }
    total_ += names_.size();
    if (is_near() && total_ > task_.info->limit) {
      ++shared_.semantic.over_limit;
      names_.clear();
      overflow(fmt::format("more than {} elements are within {} of a row", task_.info->limit, task_.info->min_similarity));
      return true;
    }
    stage_ = names_.empty() ? Stage::kNext : Stage::kRemove;
    return true;
  }

  // Elements of what is being emptied.
  bool take_drawn(const Reply& reply) {
    names_.clear();
    std::size_t bytes = 0;
    if (reply.kind == Reply::Kind::kArray) {
      for (const Reply& name : reply.elements) {
        if (name.kind == Reply::Kind::kTooLong) continue;
        if (name.kind != Reply::Kind::kText) return false;
        bytes += name.text.size() + 1;
        names_.push_back(name.text);
      }
      if (names_.empty() && !reply.elements.empty()) return false;
    } else if (reply.kind != Reply::Kind::kNil) {
      return false;
    }
    if (!names_.empty()) {
      count_ = std::min({std::max(kFoundBytes / (bytes / names_.size() + 1), kLongNamesCount), 4 * count_, kCountMax});
      stage_ = Stage::kRemove;
      return true;
    }
    is_draining_ = false;
    if (std::exchange(is_rename_due_, false)) {
      stage_ = Stage::kRename;
    } else {
      task_done();
    }
    return true;
  }

  bool take_error(Awaited awaited, std::string_view text) {
    if (is_engine_missing(text)) {
      wait(is_vset() ? fmt::format("index '{}': this server has no vector sets; Redis 8 and later have them", task_.info->index)
                     : fmt::format("index '{}': this server has no RediSearch", task_.info->index));
      return true;
    }
    if (!is_vset() && is_index_missing(text)) {
      wait(fmt::format("there is no index '{}' in RediSearch", task_.info->index));
      return true;
    }
    if (is_vset() && text.starts_with("WRONGTYPE")) {
      names_.clear();
      if (awaited == Awaited::kInspected || awaited == Awaited::kFound) task_done();  // no vector set: nothing is found in it
      return awaited != Awaited::kDrawn && awaited != Awaited::kKeys;
    }
    if (awaited == Awaited::kRenamed && text.find("no such key") != std::string_view::npos) {
      is_draining_ = true;
      stage_ = Stage::kDrain;
      return true;
    }
    // Made anew in between, with other vectors.
    if (awaited == Awaited::kFound && text.find("imension mismatch") != std::string_view::npos && ++barren_ < kBarrenMax) {
      stage_ = Stage::kInspect;
      return true;
    }
    return false;
  }

  // Begun anew in a while.
  void wait(std::string why) {
    problem_ = std::move(why);
    names_.clear();
    barren_ = 0;
    stage_ = Stage::kInspect;
    retry_at_ = now_ + kRetry;
  }

  const Order order_;
  WalkCall call_;
  std::deque<Awaited> awaited_;
  Stage stage_ = Stage::kNext;
  std::optional<SteadyTime> retry_at_;
  SteadyTime now_{};
  std::string problem_;

  std::size_t next_ = 0;  // text or pattern
  Task task_;
  VectorSet set_;
  SearchIndex index_;
  SemanticFilter filter_;
  bool by_filter_ = false;
  std::uint64_t known_size_ = 0;
  std::size_t count_ = kFirstCount;
  bool has_more_ = false;
  std::vector<std::string> names_;
  std::size_t keys_asked_ = 0;
  std::uint64_t removed_ = 0;  // of what the last search found
  std::uint64_t total_ = 0;
  std::size_t barren_ = 0;

  std::string trash_;
  bool is_draining_ = false;
  bool is_rename_due_ = false;
};

// Patterns of an order, with indexes of vectors among them: one after the other.
class MixedWork final : public RedisWork {
 public:
  MixedWork(Ticket ticket, const Order& order, WorkShared& shared) : RedisWork(ticket, Command{}, shared) {
    for (std::size_t i = 0; i < order.patterns.size(); ++i) {
      const bool is_semantic = order.patterns[i].pattern->is_semantic;
      (is_semantic ? semantic_ : others_).push_back(order.patterns[i]);
      (is_semantic ? semantic_places_ : other_places_).push_back(i);
    }
    outcome_.by_pattern.resize(order.patterns.size());
    Order part = order;
    part.patterns = semantic_;
    semantic_work_ = std::make_unique<SemanticWork>(ticket, part, shared);
    part.patterns = others_;
    if (!others_.empty()) other_work_ = make_patterns_work(ticket, part, shared);
  }

  void pump(Session& session, SteadyTime now) override {
    if (semantic_work_) run(semantic_work_, semantic_places_, session, now);
    if (!semantic_work_ && other_work_) run(other_work_, other_places_, session, now);
  }
  bool on_reply(std::uint64_t, Reply&&) override { return false; }  // they come to its parts
  bool on_error(std::uint64_t, std::string_view, std::string&) override { return false; }
  bool is_finished() const override { return !semantic_work_ && !other_work_; }
  bool is_bulk() const override { return true; }
  bool wants_wake() const override { return current() != nullptr && current()->wants_wake(); }
  std::optional<SteadyTime> wake_at() const override { return current() != nullptr ? current()->wake_at() : std::nullopt; }
  std::string problem() const override { return current() != nullptr ? current()->problem() : std::string(); }

 private:
  const RedisWork* current() const { return semantic_work_ ? semantic_work_.get() : other_work_.get(); }

  void run(std::unique_ptr<RedisWork>& work, const std::vector<std::size_t>& places, Session& session, SteadyTime now) {
    work->pump(session, now);
    if (!work->is_finished()) return;
    const Outcome& outcome = work->outcome();
    for (std::size_t i = 0; i < places.size(); ++i) outcome_.by_pattern[places[i]] = outcome.by_pattern[i];
    outcome_ += outcome;
    work.reset();
  }

  std::vector<PatternRef> semantic_;
  std::vector<PatternRef> others_;
  std::vector<std::size_t> semantic_places_;
  std::vector<std::size_t> other_places_;
  std::unique_ptr<RedisWork> semantic_work_;
  std::unique_ptr<RedisWork> other_work_;
};

}  // namespace

bool has_semantic_patterns(const Order& order) {
  return order.target == Target::kPatterns &&
         std::any_of(order.patterns.begin(), order.patterns.end(), [](const PatternRef& ref) { return ref.pattern->is_semantic; });
}

std::unique_ptr<RedisWork> make_semantic_work(Ticket ticket, const Order& order, WorkShared& shared) {
  if (order.target == Target::kSemantic) return std::make_unique<SemanticWork>(ticket, order, shared);
  return std::make_unique<MixedWork>(ticket, order, shared);
}

}  // namespace evictd
