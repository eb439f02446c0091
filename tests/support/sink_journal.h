// Small tools of every test that drives a sink: a journal of what it said, orders in words.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/interface/sink.h"

namespace evictd::testing {

// Remembers what the sink said.
class SinkJournal final : public SinkHandler {
 public:
  void on_sink_connected(const SinkConnected& connected) override {
    ++connects;
    last_connected = connected;
  }
  void on_sink_disconnected(const Error& error, std::string_view error_class) override {
    ++disconnects;
    last_error = error;
    last_class = error_class;
  }
  void on_sink_failed(const Error& error) override {
    failed = true;
    last_error = error;
  }
  void on_done(Ticket ticket, const Outcome& outcome) override {
    EXPECT_FALSE(done.contains(ticket) || lost.contains(ticket)) << "an order ended twice";
    done[ticket] = outcome;
  }
  void on_lost(Ticket ticket) override {
    EXPECT_FALSE(done.contains(ticket) || lost.contains(ticket)) << "an order ended twice";
    lost.insert(ticket);
  }
  void on_record_saved(std::uint64_t sequence) override { records_saved.push_back(sequence); }
  void on_record_confirmed(std::uint64_t sequence) override {
    EXPECT_FALSE(records_saved.empty()) << "confirmed, and not saved";
    records_confirmed.push_back(sequence);
  }
  void on_replicas_missing(const std::optional<Error>& error) override { replicas_missing.push_back(error); }
  void on_record_loaded(std::uint64_t sequence, const std::optional<Record>& record) override {
    records_loaded[sequence] = record;
  }

  int connects = 0;
  int disconnects = 0;
  bool failed = false;
  SinkConnected last_connected;
  Error last_error;
  std::string last_class;
  std::map<Ticket, Outcome> done;
  std::set<Ticket> lost;
  std::vector<std::uint64_t> records_saved;
  std::vector<std::uint64_t> records_confirmed;
  std::vector<std::optional<Error>> replicas_missing;
  std::map<std::uint64_t, std::optional<Record>> records_loaded;
};

// An order in words, with everything it points to: OrderBuilder(Act::kInvalidate).key("product:1", {10, 11}). It must
// outlive the order's end.
class OrderBuilder {
 public:
  explicit OrderBuilder(Act act, Target target = Target::kKeys) : act_(act), target_(target) {}

  // A key, tag or counter.
  OrderBuilder& key(std::string_view text, const std::vector<std::uint64_t>& xids) {
    if (target_ == Target::kPatterns) return pattern(text, xids);
    texts_.texts += text;
    for (const std::uint64_t xid : xids) texts_.xids.push_back(Xid{xid});
    texts_.items.push_back(Item{static_cast<std::uint32_t>(texts_.texts.size()),
                                static_cast<std::uint32_t>(texts_.xids.size())});
    return *this;
  }
  // A pattern, walked together with the others.
  OrderBuilder& pattern(std::string_view glob, const std::vector<std::uint64_t>& xids) {
    target_ = Target::kPatterns;
    patterns_.push_back(Pattern{std::string(glob)});
    for (const std::uint64_t xid : xids) xids_.push_back(Xid{xid});
    return *this;
  }
  // `fill: checked`.
  OrderBuilder& trusting() {
    rule_.fill = FillMode::kChecked;
    return *this;
  }
  OrderBuilder& settled() {
    is_settle_ = true;
    return *this;
  }
  OrderBuilder& unconditional(std::uint64_t floor) {
    is_unconditional_ = true;
    floor_ = Xid{floor};
    return *this;
  }
  // Of all patterns, in whatever order they are named.
  OrderBuilder& of_tags() {
    is_of_tags_ = true;
    return *this;
  }
  OrderBuilder& of_counters() {
    is_of_counters_ = true;
    return *this;
  }
  OrderBuilder& lazy() {
    rule_.tags_mode = TagsMode::kLazy;
    return *this;
  }
  OrderBuilder& grace(std::chrono::milliseconds grace) {
    rule_.mode = RuleMode::kStale;
    rule_.grace = grace;
    return *this;
  }
  OrderBuilder& announced(std::string_view channel) {
    rule_.announce = channel;
    return *this;
  }
  // `refresh`: which keys were hit is told.
  OrderBuilder& refreshed() {
    rule_.refresh.stream = "evictd:refresh";
    return *this;
  }
  // Of the last key.
  OrderBuilder& row_version(std::string_view version) {
    texts_.row_versions.resize(texts_.items.size());
    texts_.row_versions.back() = version;
    return *this;
  }

  Order order() const {
    Order order;
    order.act = act_;
    order.target = target_;
    order.is_settle = is_settle_;
    order.is_unconditional = is_unconditional_;
    order.floor = floor_;
    if (target_ == Target::kPatterns) {
      refs_.clear();
      for (Pattern& pattern : patterns_) {
        pattern.is_tag = is_of_tags_;
        pattern.is_bump = is_of_counters_;
        pattern.is_lazy = is_of_tags_ && rule_.tags_mode == TagsMode::kLazy;
        refs_.push_back({&rule_, &pattern});
      }
      order.patterns = refs_;
      if (!is_unconditional_) order.xids = xids_;
    } else {
      order.rule = &rule_;
      order.texts = &texts_;
    }
    return order;
  }

 private:
  Act act_;
  Target target_;
  RuleInfo rule_;
  Texts texts_;
  mutable std::vector<Pattern> patterns_;
  bool is_of_tags_ = false;
  bool is_of_counters_ = false;
  std::vector<Xid> xids_;
  mutable std::vector<PatternRef> refs_;
  bool is_settle_ = false;
  bool is_unconditional_ = false;
  Xid floor_{};
};

inline Record numbered(Record record, std::uint64_t sequence) {
  record.sequence = sequence;
  return record;
}

inline void expect_counts(const Counts& counts, std::uint64_t deleted, std::uint64_t absent, std::uint64_t kept,
                          std::uint64_t replayed) {
  EXPECT_EQ(counts.deleted, deleted) << "deleted";
  EXPECT_EQ(counts.absent, absent) << "absent";
  EXPECT_EQ(counts.kept, kept) << "kept";
  EXPECT_EQ(counts.replayed, replayed) << "replayed";
}

}  // namespace evictd::testing
