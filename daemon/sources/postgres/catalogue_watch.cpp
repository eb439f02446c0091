#include "daemon/sources/postgres/catalogue_watch.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace evictd {
namespace {

constexpr std::chrono::seconds kDistanceMin{1};  // whatever is altered how often
constexpr int kRest = 20;
constexpr int kRestWhenDescribed = 4;
constexpr std::chrono::seconds kRestMax{30};
constexpr std::chrono::milliseconds kCatchUpInterval{200};

}  // namespace

void CatalogueWatch::judges(std::map<std::string, TableFacts>& tables) {
  truncates_.explain(tables);
  truncates_.accept(tables);
  file_change_seen_.reset();
}

void CatalogueWatch::streaming(const Facts& facts, SteadyTime now) {
  problem_.clear();  // of an earlier connection; the catalogue was read on the way here
  look_.due_at(now + interval_);
  followed_ = published_tables(facts);
}

// Between the beginnings of two looks.
std::chrono::nanoseconds CatalogueWatch::distance(std::chrono::nanoseconds least, int rest) const {
  return std::max(least, std::min<std::chrono::nanoseconds>(rest * look_took_, kRestMax));
}

bool CatalogueWatch::looks(SteadyTime now) {
  if (!look_.begins(now, distance(interval_, kRest))) return false;
  looked_at_ = now;
  return true;
}

void CatalogueWatch::described() {
  look_.due_at(std::min(look_.due(), looked_at_ + distance(kDistanceMin, kRestWhenDescribed)));
}

void CatalogueWatch::answered(SteadyTime now) {
  look_.answered();
  look_took_ = now - looked_at_;
  look_.due_at(std::max(look_.due(), looked_at_ + distance(std::chrono::nanoseconds(0), kRestWhenDescribed)));
}

CatalogueWatch::Seen CatalogueWatch::saw(Facts& facts, const PlanInput& input, Lsn received, SteadyTime now) {
  Seen seen;
  problem_.clear();
  if (truncates_.explain(facts.tables)) {
    // A TRUNCATE that is still to come through the stream, or a change that it does not tell.
    if (!file_change_seen_) file_change_seen_ = facts.server.wal_end;
    if (received < *file_change_seen_) {
      look_.due_at(now + kCatchUpInterval);
      return seen;
    }
  }
  file_change_seen_.reset();
  Result<Plan> plan = make_plan(input);
  if (!plan) {
    problem_ = plan.error().text;
    return seen;
  }
  if (input.options->temporary_slot) return seen;
  seen.plan = std::move(*plan);
  // What has grown in a way that misses nothing is followed as it is.
  std::map<std::string, std::string> now_published = published_tables(facts);
  bool is_other = seen.plan.has_work() || now_published.size() != followed_.size();
  for (const auto& [table, before] : followed_) {
    is_other = is_other || !now_published.contains(table) ||
               !table_gap(facts.tables.at(table), facts.publication, before).empty();
  }
  if (is_other) {
    seen.follows = Follows::kReconnect;
    seen.why = "the published tables have changed";
    return seen;
  }
  // The stream holds it, and this server says that nobody does: after a failover the old primary may stream on, while sessions that are
  // made anew end at the new one, which has a slot of that name as well.
  if (!facts.slot.is_active) {
    seen.follows = Follows::kReconnect;
    seen.why = fmt::format("nobody uses slot '{}' on the server that answers ordinary connections: the stream has ended there, or is another server's",
                           input.options->slot);
    return seen;
  }
  seen.follows = Follows::kGoesOn;
  seen.has_grown = now_published != followed_;
  followed_ = std::move(now_published);
  return seen;
}

}  // namespace evictd
