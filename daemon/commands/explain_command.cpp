#include <cstdio>

#include "daemon/commands/commands.h"
#include "daemon/config.h"
#include "daemon/explain.h"

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
