#include "daemon/sources/postgres/told_problems.h"

#include <algorithm>

namespace evictd {

std::vector<PostgresNotice> ToldProblems::tell(const Plan& plan) {
  std::vector<PostgresNotice> notices;
  const auto tell_new = [&](bool is_warning, const std::string& intro, const std::vector<std::string>& texts,
                            const std::vector<std::string>& than) {
    for (const std::string& text : texts) {
      if (std::find(than.begin(), than.end(), text) == than.end()) notices.push_back({is_warning, intro + text, {}});
    }
  };
  tell_new(true, "not served: ", plan.problems, problems_);
  tell_new(false, "no longer: ", problems_, plan.problems);
  tell_new(true, "", plan.warnings, warnings_);
  problems_ = plan.problems;
  warnings_ = plan.warnings;
  return notices;
}

}  // namespace evictd
