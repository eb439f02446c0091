#include "daemon/app/rule_cases.h"

#include <fmt/core.h>

#include <cstdio>

#include "daemon/app/commands/commands.h"
#include "daemon/app/config.h"

namespace evictd {

int rules_command(const CommandLine& request) {
  const Result<RuleSet> rules = load_rules_only(request.config);
  if (!rules) return report(rules.error());
  std::size_t passed = 0;
  std::size_t failed = 0;
  for (const std::string& file : request.case_files) {
    const Result<std::string> text = read_text_file(file, "file of cases");
    if (!text) return report(text.error());
    const Result<std::vector<RuleCase>> cases = parse_rule_cases(*text, file);
    if (!cases) return report(cases.error());
    const Result<RuleCasesResult> result = run_rule_cases(*cases, *rules);
    if (!result) return report(result.error());
    std::fputs(result->text.c_str(), stdout);
    passed += result->passed;
    failed += result->failed;
  }
  fmt::print("{} passed, {} failed\n", passed, failed);
  return failed == 0 ? kExitDone : kExitFailed;
}

}  // namespace evictd
