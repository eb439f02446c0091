#include "daemon/sinks/http/doctor/check.h"
#include "daemon/sinks/redis/doctor/check.h"

#include <fmt/core.h>

#include <cstdio>

#include "daemon/app/check_files.h"
#include "daemon/app/commands/commands.h"
#include "daemon/app/commands/wiring.h"

namespace evictd {
namespace {

int print(const CommandLine& request, const std::vector<CheckSection>& sections) {
  const std::string text = request.json ? check_json(sections) : check_text(sections);
  std::fputs(text.c_str(), stdout);
  return check_exit_code(sections);
}

}  // namespace

int check_command(const CommandLine& request) {
  const Result<ValidConfig> config = load_config(request.config, process_environment);
  if (!config) return print(request, {{"files", {file_finding(config.error())}}});
  const Result<RuleSet> rules = load_rules(**config);
  if (!rules) return print(request, {{"files", {file_finding(rules.error())}}});

  std::vector<CheckSection> sections;
  sections.push_back(
      {fmt::format("files, {} rules for {} tables", rules->rules().size(), rules->tables().size()),
       check_files(**config, *rules)});
  if (request.offline) return print(request, sections);
  std::optional<Record> record;
  for (const CacheSettings& cache : (*config)->caches) {
    if (!record) record = read_record(redis_options(**config, cache));
  }
  sections.push_back({source_text(**config), check_source(**config, *rules, record ? &*record : nullptr)});
  for (const CacheSettings& cache : (*config)->caches) {
    const std::string what = (*config)->caches.size() == 1 ? "" : "cache '" + cache.name + "': ";
    sections.push_back({what + cache_kind_text(cache), cache.edge ? check_http(edge_options(cache), cache.place.to_string())
                                                                  : check_redis(redis_options(**config, cache), *rules)});
  }
  return print(request, sections);
}

}  // namespace evictd
