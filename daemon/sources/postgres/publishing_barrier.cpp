#include "daemon/sources/postgres/publishing_barrier.h"

#include <fmt/format.h>

#include <utility>

namespace evictd {

void PublishingBarrier::stands(Xid xid, const std::vector<std::string>& tables, bool is_expected) {
  xid_ = xid;
  is_expected_ = is_expected && (tables_.empty() || is_expected_);
  tables_.insert(tables_.end(), tables.begin(), tables.end());
}

std::optional<SteadyTime> PublishingBarrier::ask_at() const {
  if (tables_.empty()) return std::nullopt;
  return ask_at_;
}

std::optional<Gap> PublishingBarrier::passed(const Snapshot& snapshot) {
  if (tables_.empty() || snapshot.xmin() < xid_) return std::nullopt;
  Gap gap{is_expected_ ? "table_added" : "unpublished",
          fmt::format("transactions that had begun before '{}' were published have ended", fmt::join(tables_, "', '")),
          tables_, is_expected_};
  tables_.clear();
  return gap;
}

}  // namespace evictd
