// A fake database: rows with versions, transactions that are logged before they become visible, and snapshots.
// The world that the fake source reads and that simulated readers select from.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/interface/version.h"

namespace evictd::testing {

// One logged transaction: which rows it changed. Its xid is also the version of the rows it wrote.
struct Logged {
  std::uint64_t end = 0;  // position, increasing in the order of the log
  Xid xid{};
  SystemTime commit_time;
  std::vector<int> rows;
  bool truncate = false;
};

class FakeDatabase {
 public:
  explicit FakeDatabase(int rows) : versions_(static_cast<std::size_t>(rows)) {}

  // Rows belong to groups, which never change.
  static constexpr int kGroups = 3;
  static int group_of(int row) { return row % kGroups; }
  std::vector<int> rows_of(int group) const {
    std::vector<int> found;
    for (int row = group; row < rows(); row += kGroups) found.push_back(row);
    return found;
  }

  int rows() const { return static_cast<int>(versions_.size()); }

  // Writes the commit record: the stream may send it from now on, nobody can see it yet.
  const Logged& commit(std::vector<int> rows, bool truncate, SystemTime now) {
    Logged logged;
    logged.end = ++log_end_ * 10 + way_;
    logged.xid = Xid{next_xid_++};
    logged.commit_time = now;
    logged.rows = std::move(rows);
    logged.truncate = truncate;
    invisible_.insert(logged.xid);
    log_.push_back(logged);
    return log_.back();
  }

  void make_visible(Xid xid, SteadyTime now) {
    if (invisible_.erase(xid) == 0) return;
    visible_since_[xid] = now;
    for (const Logged& logged : log_) {
      if (logged.xid != xid) continue;
      for (const int row : logged.rows) versions_[static_cast<std::size_t>(row)].insert(xid);
    }
  }

  // A restore to the moment before this transaction: it never was, and its id is given away again.
  void restore_to_before(Xid xid) {
    invisible_.clear();
    next_xid_ = number(xid);
  }

  // A copy of the server that was made when its log ended there is put back, under the same name: what came later never was,
  // and what comes from here on ends elsewhere in the log.
  void set_back_to(std::uint64_t end) {
    log_.erase(std::find_if(log_.begin(), log_.end(), [end](const Logged& logged) { return logged.end > end; }), log_.end());
    if (!log_.empty()) next_xid_ = number(log_.back().xid) + 1;
    log_end_ = end / 10;
    ++way_;
  }

  bool is_visible(Xid xid) const { return visible_since_.count(xid) != 0; }
  bool is_truncate(Xid xid) const {
    return std::any_of(log_.begin(), log_.end(), [xid](const Logged& logged) { return logged.xid == xid && logged.truncate; });
  }
  SteadyTime visible_since(Xid xid) const { return visible_since_.at(xid); }
  const std::set<Xid>& invisible() const { return invisible_; }

  // The transactions whose change a reader of this row sees now.
  const std::set<Xid>& select(int row) const { return versions_[static_cast<std::size_t>(row)]; }

  Snapshot snapshot() const {
    const std::uint64_t xmin = invisible_.empty() ? next_xid_ : number(*invisible_.begin());
    std::string text = std::to_string(xmin) + ":" + std::to_string(next_xid_) + ":";
    bool first = true;
    for (const Xid xid : invisible_) {
      text += (first ? "" : ",") + std::to_string(number(xid));
      first = false;
    }
    return *Snapshot::parse(text);
  }

  const std::vector<Logged>& log() const { return log_; }
  std::uint64_t log_end() const { return log_.empty() ? log_end_ * 10 : std::max(log_end_ * 10, log_.back().end); }

 private:
  std::uint64_t next_xid_ = 1000;
  std::uint64_t log_end_ = 0;
  std::uint64_t way_ = 0;  // how often it was set back
  std::vector<Logged> log_;
  std::set<Xid> invisible_;
  std::map<Xid, SteadyTime> visible_since_;
  std::vector<std::set<Xid>> versions_;  // per row: the visible transactions that wrote it
};

}  // namespace evictd::testing
