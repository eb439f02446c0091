#include <fmt/core.h>

#include <cstdio>
#include <filesystem>

#include "daemon/app/commands/commands.h"
#include "daemon/app/config.h"
#include "daemon/sinks/redis/scripts.h"

namespace evictd {

// The configuration matters for one number only; without one, its default holds.
int lua_command(const CommandLine& request) {
  std::chrono::milliseconds tombstone_ttl = RedisSettings{}.tombstone_ttl;
  std::error_code ignored;
  if (request.config != CommandLine{}.config || std::filesystem::exists(request.config, ignored)) {
    const Result<ValidConfig> config = load_config(request.config, process_environment);
    if (!config) return report(config.error());
    for (const CacheSettings& cache : (*config)->caches) {
      if (cache.edge) continue;
      tombstone_ttl = cache.redis.tombstone_ttl;
      break;
    }
  }
  if (!request.scripts) {
    std::fputs(function_library(tombstone_ttl, request.cluster).c_str(), stdout);
    return kExitDone;
  }
  for (const ReaderScript& reader : reader_scripts(tombstone_ttl, request.cluster)) {
    fmt::print("-- {} {}\n{}\n", reader.function, reader.script.sha1, reader.script.text);
  }
  return kExitDone;
}

}  // namespace evictd
