// The part of `evictd check` that needs nothing but the files (CF001 to CF008), and how findings
// are printed.
#pragma once

#include <string>

#include "daemon/app/config.h"
#include "daemon/base/finding.h"
#include "mapping/rules.h"

namespace evictd {

// CF001: a file that cannot be read or understood.
Finding file_finding(const Error& error);

// What is suspicious about rules that can be read.
Findings check_files(const Config& config, const RuleSet& rules);

// Findings under a heading each, as text for a person or as one JSON document.
struct CheckSection {
  std::string title;  // "PostgreSQL localhost:5432/shop"
  Findings findings;
};
// 2 when something must be fixed, 1 when all that is wrong is that something could not be reached, else 0.
int check_exit_code(const std::vector<CheckSection>& sections);

std::string check_text(const std::vector<CheckSection>& sections);
std::string check_json(const std::vector<CheckSection>& sections);

}  // namespace evictd
