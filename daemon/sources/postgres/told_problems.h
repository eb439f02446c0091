// What of a plan's problems and warnings has been told: each sentence when it first holds, a problem also when it no longer does. Pure.
#pragma once

#include <string>
#include <vector>

#include "daemon/sources/postgres/plan.h"

namespace evictd {

class ToldProblems {
 public:
  // -> what to tell now.
  std::vector<PostgresNotice> tell(const Plan& plan);

 private:
  std::vector<std::string> problems_;
  std::vector<std::string> warnings_;
};

}  // namespace evictd
