#include "tests/readers/race/judge.h"

#include <algorithm>

namespace evictd::race {
namespace {

struct Row {
  std::uint64_t floor = 0;  // the highest version that was ordered away below
  bool present = false;
  std::uint64_t version = 0;
  std::vector<std::int64_t> visible_us;  // by version
};

class Judge {
 public:
  Judge(const std::vector<Commit>& commits, std::int64_t bound_us) : bound_us_(bound_us) {
    for (const Commit& commit : commits) {
      by_xid_[commit.xid].push_back(&commit);
      std::vector<std::int64_t>& visible_us = rows_[commit.row].visible_us;
      if (visible_us.size() <= commit.version) visible_us.resize(commit.version + 1, 0);
      visible_us[commit.version] = commit.visible_us;
    }
  }

  void take(const Event& event) {
    Row& row = rows_[event.row];
    switch (event.kind) {
      case Event::Kind::kOrdered:
        order(event, row);
        break;
      case Event::Kind::kExecuted:
        for (const std::uint32_t number : ordered_now_) {
          const Row& one = rows_[number];
          if (one.present && one.version < one.floor) ++verdict.stale_kept;
        }
        ordered_now_.clear();
        break;
      case Event::Kind::kDeleted:
        end(row, event.time_us);
        row.present = false;
        break;
      case Event::Kind::kStored:
        // The same version again does not begin anew.
        if (row.present && row.version != event.number) end(row, event.time_us);
        ++verdict.stored;
        if (event.number < row.floor) ++verdict.stale_fills;
        row.present = true;
        row.version = event.number;
        break;
    }
  }

  void finish(std::int64_t end_us) {
    for (auto& [number, row] : rows_) {
      if (!row.present) continue;
      end(row, end_us);
      verdict.left[number] = row.version;
    }
    for (const auto& [xid, commits] : by_xid_) {
      for (const Commit* commit : commits) {
        if (!was_ordered_[xid].count(commit->row)) ++verdict.never_ordered;
      }
    }
  }

  Verdict verdict;

 private:
  void order(const Event& event, Row& row) {
    ++verdict.ordered;
    was_ordered_[event.number][event.row] = true;
    ordered_now_.push_back(event.row);
    const auto found = by_xid_.find(event.number);
    if (found == by_xid_.end()) return;
    for (const Commit* commit : found->second) {
      if (commit->row == event.row) row.floor = std::max(row.floor, commit->version);
    }
  }

  // The value of `row` is gone: how long was it there after its successor could be seen?
  void end(const Row& row, std::int64_t time_us) {
    const std::uint64_t successor = row.version + 1;
    if (!row.present || successor >= row.visible_us.size() || row.visible_us[successor] == 0) return;
    const std::int64_t stale_us = time_us - row.visible_us[successor];
    verdict.longest_stale_us = std::max(verdict.longest_stale_us, stale_us);
    if (stale_us > bound_us_) ++verdict.stale_beyond_bound;
  }

  std::int64_t bound_us_;
  std::unordered_map<std::uint64_t, std::vector<const Commit*>> by_xid_;
  std::unordered_map<std::uint64_t, std::map<std::uint32_t, bool>> was_ordered_;
  std::unordered_map<std::uint32_t, Row> rows_;
  std::vector<std::uint32_t> ordered_now_;
};

}  // namespace

Verdict judge(const std::vector<Commit>& commits, const std::vector<Event>& events,
              std::int64_t end_us, std::int64_t bound_us) {
  Judge judge(commits, bound_us);
  for (const Event& event : events) judge.take(event);
  judge.finish(end_us);
  return judge.verdict;
}

}  // namespace evictd::race
