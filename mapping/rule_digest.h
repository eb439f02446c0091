// Digest of a rule: one number for what it matches and how it acts on a cache. Pure.
//
// Two rules with the same digest keep the same keys true in the same way, so a cache that one of them has kept needs
// no purge when the other takes over, also across restarts, machines and builds. Names, places, the order of lists,
// spaces inside placeholders, and settings that only say how fast or how many at once (settle, grace, collapse_after, purge_every)
// do not count; nor do the caches it acts on, since each cache keeps the digests of its own rules. The digests of a
// build are those of every later one: a setting that is new adds to the text that is hashed only where a rule uses it.
#pragma once

#include <cstdint>
#include <vector>

#include "mapping/rules_compiled.h"

namespace evictd {

// Which caches: those that hold values by key, or an edge, which knows responses by surrogate keys. 0: the rule has nothing
// for them.
enum class DigestOf : std::uint8_t { kKeys, kSurrogates };
std::uint64_t rule_digest(const RuleInfo& info, const CompiledRule& rule, DigestOf of);

// Of the rules of one table, whatever their order. A rule that is there twice counts once. REQUIRES: at least one.
std::uint64_t combined_digest(std::vector<std::uint64_t> digests);

}  // namespace evictd
