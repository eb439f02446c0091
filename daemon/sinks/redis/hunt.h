// One pattern of a walk, and the names found that are still to be treated. Pure.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/sinks/redis/command.h"
#include "daemon/sinks/redis/glob.h"
#include "daemon/sinks/redis/plain_work.h"
#include "daemon/sinks/redis/redis_work.h"
#include "mapping/rules.h"

namespace evictd {

// What a held name costs beside its text.
inline constexpr std::size_t kNameBytes = sizeof(std::string);

// What is looked for.
enum class HuntKind : std::uint8_t { kKeys, kSets, kLazyTags, kCounters };

inline HuntKind kind_of(const Command& command) {
  if (command.pattern_of == PatternOf::kCounters) return HuntKind::kCounters;
  if (command.pattern_of == PatternOf::kKeys) return HuntKind::kKeys;
  return command.lazy ? HuntKind::kLazyTags : HuntKind::kSets;
}

// The tag's key of a lazy tag's marker; empty when it is none.
inline std::string_view tag_of_marker(std::string_view name) {
  if (!is_own_key(name)) return {};
  name.remove_prefix(kOwnPrefix.size());
  if (name.starts_with('{') && name.ends_with('}')) name = name.substr(1, name.size() - 2);
  return name.starts_with(kTagPrefix) ? name : std::string_view();
}

// One pattern, and the names found that are still to be treated.
struct Hunt {
  Hunt(const Order& order, const PatternRef& ref)
      : made(make_pattern_command(order, ref)), kind(kind_of(made->command)), is_plain(evictd::is_plain(made->command)), glob(made->command.texts) {}

  const Command& command() const { return made->command; }
  std::string_view text() const { return made->command.texts; }
  // A counter by its own name need not be looked for, and is raised even if it is not there yet.
  bool is_one_name() const { return kind == HuntKind::kCounters && glob.is_literal(); }

  // Treats what matches as `other` does.
  bool is_alike(const Hunt& other) const {
    return kind == other.kind && command().trust_filled == other.command().trust_filled &&
           command().channel == other.command().channel;
  }

  bool matches(std::string_view name) const {
    if (kind == HuntKind::kLazyTags) {
      const std::string_view tag = tag_of_marker(name);
      return !tag.empty() && glob.matches(tag);
    }
    // Never evictd's own keys: a pattern such as '*' must not eat the tombstones it rests on.
    if (is_own_key(name)) return false;
    // Nor a tag's set, unless the pattern means it: unlinked as a key, it would strand its members.
    if (kind == HuntKind::kKeys && name.starts_with(kTagPrefix) && !text().starts_with(kTagPrefix)) return false;
    return glob.matches(name);
  }

  void hold(std::string name) {
    bytes += name.size() + kNameBytes;
    names.push_back(std::move(name));
  }

  std::unique_ptr<PatternCommand> made;
  HuntKind kind;
  bool is_plain;  // by ordinary commands, with no marker of its own
  Glob glob;
  std::size_t alike = 0;     // the same number as other hunts that treat what matches alike
  bool is_finished = false;  // by the order that this one repeats
  std::vector<std::string> names;
  std::size_t bytes = 0;  // of names
};

// Gives those that treat what matches alike one number, `alike`. -> how many numbers there are: few, however many patterns.
inline std::size_t number_alike(std::vector<Hunt>& hunts) {
  std::vector<const Hunt*> firsts;
  for (Hunt& hunt : hunts) {
    const auto known = std::find_if(firsts.begin(), firsts.end(), [&](const Hunt* first) { return hunt.is_alike(*first); });
    hunt.alike = static_cast<std::size_t>(known - firsts.begin());
    if (known == firsts.end()) firsts.push_back(&hunt);
  }
  return firsts.size();
}

}  // namespace evictd
