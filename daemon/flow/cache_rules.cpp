#include "daemon/flow/cache_rules.h"

#include <algorithm>
#include <numeric>
#include <set>

namespace evictd {
namespace {

SinkContext nothing_needed() {
  SinkContext needs;
  needs.is_deletes_only = true;
  return needs;
}

void add_needs(SinkContext& needs, const RuleInfo& rule) {
  if (!asks_for_deletes_only(rule)) needs.is_deletes_only = false;
  if (asks_for_deletes_only(rule) && kept_by(rule).has_tag_sets) needs.has_plain_tag_sets = true;
  if (!rule.semantic.empty()) needs.needs_one_server = "semantic";
  needs.kept = needs.kept | kept_by(rule);
  if (rule.announce.empty()) return;
  if (std::find(needs.channels.begin(), needs.channels.end(), rule.announce) == needs.channels.end()) needs.channels.push_back(rule.announce);
}

}  // namespace

bool acts_on(const RuleInfo& rule, const std::string& name) {
  return rule.caches.empty() || std::find(rule.caches.begin(), rule.caches.end(), name) != rule.caches.end();
}

std::map<std::string, std::uint64_t> rule_digests(const RuleSet& rules, const std::string& name, bool is_edge) {
  std::map<std::string, std::set<std::uint64_t>> by_table;
  for (const RuleInfo& rule : rules.rules()) {
    const std::uint64_t digest = is_edge ? rule.surrogate_digest : rule.digest;
    if (acts_on(rule, name) && digest != 0) by_table[rule.qualified_table()].insert(digest);  // 0: nothing for this cache
  }
  std::map<std::string, std::uint64_t> digests;
  for (const auto& [table, each] : by_table) {
    // Neither the order of the file nor a rule that is there twice has a meaning: a sum of a set does not care.
    digests[table] = std::accumulate(each.begin(), each.end(), std::uint64_t{0});
  }
  return digests;
}

CacheRules::CacheRules(std::shared_ptr<const RuleSet> rules, std::string name, const SinkTraits& traits)
    : rules_(std::move(rules)), name_(std::move(name)), needs_(nothing_needed()), digests_(rule_digests(*rules_, name_, traits.is_edge)) {
  for (const RuleInfo& rule : rules_->rules()) {
    acting_.push_back(acts_on(rule, name_));
    if (acting_.back()) add_needs(needs_, rule);
  }
  if (traits.service != 0) digests_[kServiceDigest] = traits.service;
}

bool CacheRules::acts(const std::shared_ptr<const RuleSet>& rules, std::uint32_t rule) const {
  return rules == rules_ ? acting_[rule] : acts_on(rules->rules()[rule], name_);
}

SinkContext CacheRules::needs_of(const RuleInfo& rule) {
  SinkContext needs = nothing_needed();
  add_needs(needs, rule);
  return needs;
}

}  // namespace evictd
