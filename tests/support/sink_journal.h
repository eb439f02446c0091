// Small tools of every test that drives a sink: a journal of what it said, commands in words.
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
    EXPECT_FALSE(done.contains(ticket) || lost.contains(ticket)) << "a command ended twice";
    done[ticket] = outcome;
  }
  void on_lost(Ticket ticket) override {
    EXPECT_FALSE(done.contains(ticket) || lost.contains(ticket)) << "a command ended twice";
    lost.insert(ticket);
  }
  void on_record_saved(std::uint64_t sequence) override { records_saved.push_back(sequence); }
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
  std::map<std::uint64_t, std::optional<Record>> records_loaded;
};

// Makes a Command in words: command(Act::kInvalidate).key("product:1", {10, 11}).
class CommandBuilder {
 public:
  explicit CommandBuilder(Act act, Target target = Target::kKeys) {
    command_.act = act;
    command_.target = target;
  }
  CommandBuilder& key(std::string_view text, const std::vector<std::uint64_t>& xids) {
    command_.texts += text;
    for (const std::uint64_t xid : xids) command_.xids.push_back(Xid{xid});
    command_.items.push_back(Item{static_cast<std::uint32_t>(command_.texts.size()),
                                  static_cast<std::uint32_t>(command_.xids.size())});
    return *this;
  }
  CommandBuilder& trusting() {
    command_.trust_filled = true;
    return *this;
  }
  CommandBuilder& settled() {
    command_.settled = true;
    return *this;
  }
  CommandBuilder& unconditional(std::uint64_t floor) {
    command_.unconditional = true;
    command_.floor = Xid{floor};
    return *this;
  }
  CommandBuilder& of_tags() {
    command_.pattern_of = PatternOf::kTagSets;
    return *this;
  }
  CommandBuilder& of_counters() {
    command_.pattern_of = PatternOf::kCounters;
    return *this;
  }
  CommandBuilder& lazy() {
    command_.lazy = true;
    return *this;
  }
  CommandBuilder& grace(std::chrono::milliseconds grace) {
    command_.grace = grace;
    return *this;
  }
  CommandBuilder& announced(std::string_view channel) {
    command_.channel = channel;
    return *this;
  }
  // Of the last key.
  CommandBuilder& row_version(std::string_view version) {
    command_.row_versions.resize(command_.items.size());
    command_.row_versions.back() = version;
    return *this;
  }
  operator Command() const { return command_; }  // NOLINT: reads as a command

 private:
  Command command_;
};

inline void expect_outcome(const Outcome& outcome, std::uint64_t deleted, std::uint64_t absent,
                           std::uint64_t kept, std::uint64_t replayed) {
  EXPECT_EQ(outcome.deleted, deleted) << "deleted";
  EXPECT_EQ(outcome.absent, absent) << "absent";
  EXPECT_EQ(outcome.kept, kept) << "kept";
  EXPECT_EQ(outcome.replayed, replayed) << "replayed";
}

}  // namespace evictd::testing
