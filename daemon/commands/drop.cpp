#include "daemon/postgres/drop.h"

#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <string>

#include "daemon/commands/commands.h"
#include "daemon/commands/wiring.h"

namespace evictd {
namespace {

// True when the person agrees. Without a terminal nobody can be asked: then --yes is needed.
Result<bool> agreed(const CommandLine& request, const Config& config) {
  if (request.yes) return true;
  if (isatty(STDIN_FILENO) == 0) {
    return fail(ErrorKind::kUsage,
                "'drop' asks before it removes anything, and there is no terminal", "add --yes");
  }
  std::printf(
      "This removes the slot and the publication of\n  %s\nand evictd's record from\n  Redis %s\n"
      "Go on? [y/N] ",
      source_text(config).c_str(), redis_text(config).c_str());
  std::fflush(stdout);
  std::string answer;
  std::getline(std::cin, answer);
  return answer == "y" || answer == "yes";
}

}  // namespace

int drop_command(const CommandLine& request) {
  const Result<ValidConfig> config = load_config(request.config, process_environment);
  if (!config) return report(config.error());
  const Result<RuleSet> rules = load_rules(**config);
  if (!rules) return report(rules.error());
  if (!(*config)->postgres) {
    return report(Error{ErrorKind::kUsage, "'drop' needs a PostgreSQL source",
                        "a consumer group is removed with kafka-consumer-groups.sh --delete"});
  }
  const Result<bool> go_on = agreed(request, **config);
  if (!go_on) return report(go_on.error());
  if (!*go_on) {
    std::puts("nothing was removed");
    return kExitDone;
  }
  const Result<std::vector<std::string>> dropped =
      drop_postgres(postgres_options(**config, *rules));
  if (!dropped) return report(dropped.error());
  for (const std::string& line : *dropped) std::puts(line.c_str());
  return kExitDone;
}

}  // namespace evictd
