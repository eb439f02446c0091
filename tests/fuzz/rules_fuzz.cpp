// Any text is a rules file or gives a placed error.
#include <cstdint>
#include <string>
#include <string_view>

#include "mapping/check.h"
#include "mapping/rules.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace evictd;
  const Result<RuleSet> rules =
      RuleSet::parse(std::string_view(reinterpret_cast<const char*>(data), size), "f");
  if (!rules) {
    EVICTD_CHECK(rules.error().kind == ErrorKind::kUsage);
    EVICTD_CHECK(rules.error().text.starts_with("f:"));
    EVICTD_CHECK(rules.error().text.find('\n') == std::string::npos);
    return 0;
  }
  EVICTD_CHECK(!rules->rules().empty() && rules->rules().size() <= kRulesMax);
  for (const RuleInfo& rule : rules->rules()) {
    EVICTD_CHECK(!rule.patterns.empty() && !rule.name.empty() && !rule.table.empty());
  }
  (void)column_needs(*rules);
  (void)rules->tables();
  return 0;
}
