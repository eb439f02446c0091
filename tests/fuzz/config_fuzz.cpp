// Any text as a configuration, with one variable in the environment that holds a secret: no crash, every error says where
// and what, and never shows the secret.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "daemon/app/config.h"

namespace {

using namespace evictd;

constexpr std::string_view kSecret = "correct-horse";

void require(bool holds) {
  if (!holds) std::abort();
}

bool shows_secret(const std::string& text) { return text.find(kSecret) != std::string::npos; }

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  if (shows_secret(text)) return 0;
  const Environment environment = [](const std::string& name) {
    return name == "SECRET" ? std::optional<std::string>(kSecret) : std::nullopt;
  };
  const Result<ValidConfig> config = parse_config(text, "evictd.yaml", environment);
  if (!config) {
    require(!config.error().text.empty());
    require(!shows_secret(config.error().to_string()));
    return 0;
  }
  require((*config)->postgres.has_value() != (*config)->kafka.has_value());
  require(!(*config)->caches.empty());
  for (const CacheSettings& cache : (*config)->caches) require(!cache.name.empty());
  return 0;
}
