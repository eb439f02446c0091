// The scripts the daemon runs. Each is marker.lua and the files that define its function, and one
// line that calls it: the same text that the readers' function library is made of.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace evictd {

enum class Script : std::uint8_t {
  kInvalidate,
  kWalkBegin,
  kWalkMembers,
  kWalkFinish,
  kSaveRecord
};
inline constexpr std::size_t kScriptCount = 5;

struct ScriptText {
  std::string text;
  std::string sha1;  // 40 hex digits, as EVALSHA takes it
};

// Made once, on first use; safe from any thread.
const std::array<ScriptText, kScriptCount>& scripts();
inline const ScriptText& script(Script which) { return scripts()[static_cast<std::size_t>(which)]; }

// "evictd:{key}", or "evictd:key" when the key has a non-empty hash tag; appended to `out`.
void append_marker_name(std::string& out, std::string_view key);

}  // namespace evictd
