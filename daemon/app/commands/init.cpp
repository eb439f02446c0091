#include <fmt/core.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "daemon/app/commands/commands.h"
#include "daemon/app/proposal.h"
#include "daemon/base/text.h"
#include "daemon/sinks/redis/doctor/key_sample.h"
#include "daemon/sources/postgres/doctor/survey.h"

namespace evictd {
namespace {

constexpr std::size_t kKeysSampled = 20'000;
constexpr std::string_view kOverwritesNothing = "nothing is overwritten: move it away, or name another folder with --out";

Result<void> write_new(const std::filesystem::path& path, const std::string& text) {
  errno = 0;
  // "x": what is there is somebody's work.
  std::FILE* file = std::fopen(path.c_str(), "wx");
  const auto cannot = [&] {
    return fail(ErrorKind::kUsage, fmt::format("cannot write '{}': {}", path.string(), std::strerror(errno)),
                errno == EEXIST ? std::string(kOverwritesNothing) : "");
  };
  if (file == nullptr) return cannot();
  const bool is_written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  if (std::fclose(file) != 0 || !is_written) return cannot();
  return {};
}

// As a shell reads it back.
std::string shell_word(const std::string& text) {
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-+:@%,=";
  if (!text.empty() && text.find_first_not_of(kPlain) == std::string::npos) return text;
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

// Before either is written: a second try would stumble over what the first one left.
Result<void> require_absent(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::exists(std::filesystem::symlink_status(path, error))) return {};
  return fail(ErrorKind::kUsage, fmt::format("cannot write '{}': {}", path.string(), std::strerror(EEXIST)), std::string(kOverwritesNothing));
}

}  // namespace

int init_command(const CommandLine& request) {
  ProposalSources sources;
  Result<std::string> postgres = url_without_password(request.postgres_url, sources.had_postgres_password);
  if (!postgres) return report(postgres.error());
  sources.postgres_url = std::move(*postgres);
  Result<std::string> redis = redis_url_without_password(request.redis_url, sources.had_redis_password);
  if (!redis) return report(redis.error());
  sources.redis_url = std::move(*redis);
  Result<Survey> survey = survey_database(request.postgres_url);
  if (!survey) return report(survey.error());
  sources.survey = std::move(*survey);
  RedisOptions options;
  options.url = request.redis_url;
  const Result<std::vector<std::string>> keys = sample_keys(options, kKeysSampled);
  if (keys) {
    sources.prefixes = prefixes_of(*keys);
    sources.keys_seen = keys->size();
  } else {
    sources.is_redis_seen = false;
    std::fprintf(stderr, "warning: Redis was not asked for the names of its keys: %s\n", keys.error().text.c_str());
  }
  const Proposal proposal = propose(sources);
  if (proposal.tables == 0) {
    std::fputs(proposal.reasons.c_str(), stderr);
    return report(Error{ErrorKind::kUsage, fmt::format("database '{}' has no table that a rule could be proposed for", sources.survey.database),
                        proposal.left_out == 0 ? "name the database in --postgres: postgresql://host/database" : "write evictd.yaml and its rules by hand: docs/rules.md"});
  }
  const std::filesystem::path folder(request.directory);
  std::error_code error;
  std::filesystem::create_directories(folder, error);  // what fails shows when the files are written
  for (const char* name : {"rules.yaml", "evictd.yaml"}) {
    if (const Result<void> done = require_absent(folder / name); !done) return report(done.error());
  }
  if (Result<void> done = write_new(folder / "rules.yaml", proposal.rules); !done) return report(done.error());
  if (Result<void> done = write_new(folder / "evictd.yaml", proposal.config); !done) return report(done.error());
  fmt::print("wrote {} and {}: rules for {}, {} left out with the reason\n", (folder / "evictd.yaml").string(),
             (folder / "rules.yaml").string(), counted(proposal.tables, "table"), proposal.left_out);
  fmt::print("read the rules, then: evictd check -c {}\n", shell_word((folder / "evictd.yaml").string()));
  return kExitDone;
}

}  // namespace evictd
