#include <cstdio>

#include "daemon/app/commands/commands.h"
#include "daemon/app/config.h"
#include "daemon/app/explain.h"

namespace evictd {

int explain_command(const CommandLine& request) {
  const Result<RuleSet> rules = load_rules_only(request.config);
  if (!rules) return report(rules.error());
  const Result<std::string> answer = explain(request, *rules);
  if (!answer) return report(answer.error());
  std::fputs(answer->c_str(), stdout);
  return kExitDone;
}

}  // namespace evictd
