// The rules in force, as one cache sees them: which act on it, what they ask of its sink, and their digests for its record.
// Immutable once made; pure.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "daemon/interface/sink.h"
#include "mapping/rules.h"

namespace evictd {

// Whether a rule acts on that cache: it names it, or names none.
bool acts_on(const RuleInfo& rule, const std::string& name);
// Digests of the rules that act on the cache `name`, by table: Record::rules. Of an edge, what they say of surrogate keys;
// else, what they say of all else.
std::map<std::string, std::uint64_t> rule_digests(const RuleSet& rules, const std::string& name, bool is_edge = false);

class CacheRules {
 public:
  // `service`: SinkTraits::service of the cache; 0: none. `rules` is kept alive.
  CacheRules(std::shared_ptr<const RuleSet> rules, std::string name, const SinkTraits& traits);

  const std::shared_ptr<const RuleSet>& all() const { return rules_; }
  // By rule of all(): it acts here.
  const std::vector<bool>& acting() const { return acting_; }
  // Likewise, of a rule of `rules`, which may be those of an earlier file.
  bool acts(const std::shared_ptr<const RuleSet>& rules, std::uint32_t rule) const;
  // What they ask of the sink, and nothing else.
  const SinkContext& needs() const { return needs_; }
  // What one rule would ask of it by itself.
  static SinkContext needs_of(const RuleInfo& rule);
  // Record::rules of this cache, with that of its service under kServiceDigest.
  const std::map<std::string, std::uint64_t>& digests() const { return digests_; }

  // The name of the service's digest among those of tables: no table has it.
  static constexpr const char* kServiceDigest = "";

 private:
  std::shared_ptr<const RuleSet> rules_;
  std::string name_;
  std::vector<bool> acting_;
  SinkContext needs_;
  std::map<std::string, std::uint64_t> digests_;
};

}  // namespace evictd
