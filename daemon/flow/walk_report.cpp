#include "daemon/flow/walk_report.h"

#include <fmt/format.h>

#include <chrono>

namespace evictd {

void report_walk(Observer& observer, CacheEvents& events, const std::string& cache, const PatternRef& ref, std::string_view reason,
                 const Counts& counts, SteadyTime::duration took) {
  observer.walked(cache, {*ref.rule, ref.pattern->glob, reason, counts.deleted, std::chrono::duration_cast<std::chrono::milliseconds>(took)});
  std::string text = fmt::format("purged pattern '{}' of rule '{}' ({}): {} key{} in {:.1f} s", ref.pattern->glob, ref.rule->name,
                                 reason, counts.deleted, counts.deleted == 1 ? "" : "s", std::chrono::duration<double>(took).count());
  if (counts.deleted > 0 || took > std::chrono::seconds(1)) {
    events.info(std::move(text));
  } else {
    events.debug(std::move(text));
  }
}

}  // namespace evictd
