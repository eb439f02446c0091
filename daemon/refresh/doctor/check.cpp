#include "daemon/refresh/doctor/check.h"

#include <fmt/format.h>

#include <algorithm>

namespace evictd {
namespace {

// Whether another rule of the table deletes the same key whatever the row holds.
bool is_deleted_anyway(const RuleSet& rules, const RuleInfo& info) {
  return std::any_of(rules.rules().begin(), rules.rules().end(), [&](const RuleInfo& other) {
    return other.schema == info.schema && other.table == info.table && other.key_templates == info.key_templates &&
           other.caches == info.caches && !other.where_place;
  });
}

}  // namespace

Findings check_refresh(const RefreshDatabaseOptions& options, const RuleSet& rules) {
  Findings findings;
  const auto has_query = [](const RuleInfo& rule) { return !rule.refresh.query.empty() && rule.refresh.rule.empty(); };
  if (std::none_of(rules.rules().begin(), rules.rules().end(), has_query)) return findings;
  Result<std::unique_ptr<RefreshDatabase>> database = RefreshDatabase::make(options, rules);
  if (!database) return findings;  // the check of the source says why
  const auto first = std::find_if(rules.rules().begin(), rules.rules().end(), has_query);
  if (Result<void> connected = (*database)->connect(); !connected) {
    const bool is_told = connected.error().kind == ErrorKind::kConnection;  // by the check of the source
    if (!is_told) findings.push_back({"RF001", Severity::kError, first->refresh.place.to_string(), connected.error().text, "name the primary's address"});
    return findings;
  }
  const bool has_tags = std::any_of(rules.rules().begin(), rules.rules().end(), [](const RuleInfo& rule) { return !rule.tag_templates.empty(); });
  for (std::uint32_t rule = 0; rule < rules.rules().size(); ++rule) {
    const RuleInfo& info = rules.rules()[rule];
    if (!has_query(info)) continue;
    if (info.where_place && !is_deleted_anyway(rules, info)) {
      findings.push_back({"RF003", Severity::kWarning, info.where_place->to_string(),
                          fmt::format("a row that leaves the condition of rule '{}' is filled once more by its query, and no later change of it deletes that",
                                      info.name),
                          "let the query ask the same condition, so that it has no value for such a row; nothing to do where it does. Or delete these keys "
                          "by a rule without 'where' too, behind this one"});
    }
    if (Result<void> ready = (*database)->prepare(rule); !ready) {
      findings.push_back({"RF001", Severity::kError, info.refresh.place.to_string(), ready.error().text,
                          "the keys would stay deleted; docs/refresh.md tells what the query answers with"});
    } else if (has_tags && !(*database)->has_tags(rule)) {
      findings.push_back({"RF002", Severity::kInfo, info.refresh.place.to_string(),
                          fmt::format("the refresh query of rule '{}' names no tags, and some rules have tags", info.name),
                          "right when readers list these values under none; otherwise the query has to name them too, in a column 'tags' or "
                          "'lazy_tags': a value that evictd fills would be out of their reach"});
    }
  }
  return findings;
}

}  // namespace evictd
