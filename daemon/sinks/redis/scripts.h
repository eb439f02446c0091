// The scripts the daemon runs. Each is marker.lua and the files that define its function, and one
// line that calls it: the same text that the readers' function library is made of.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace evictd {

enum class Script : std::uint8_t {
  kInvalidate,
  kWalkBegin,
  kWalkMembers,
  kWalkFinish,
  kSaveRecord,
  kLazyTags,
  kRaise,
  kResync,
  kPlain,
  kScattered
};
inline constexpr std::size_t kScriptCount = 10;

struct ScriptText {
  std::string text;
  std::string sha1;  // 40 hex digits, as EVALSHA takes it
};

// Made once, on first use; safe from any thread.
const std::array<ScriptText, kScriptCount>& scripts();
inline const ScriptText& script(Script which) { return scripts()[static_cast<std::size_t>(which)]; }

// Grows with every change of the library's text that readers can notice.
inline constexpr int kLibraryVersion = 8;

// What evictd_version answers.
std::string library_version(std::chrono::milliseconds tombstone_ttl, bool is_cluster = false);

// The readers' function library, as FUNCTION LOAD takes it. `tombstone_ttl` is what fills compare
// their AGE with. `is_cluster`: for a server in cluster mode, where each call keeps to one slot.
std::string function_library(std::chrono::milliseconds tombstone_ttl, bool is_cluster = false);

// The same functions as scripts, for servers without functions: for EVAL and EVALSHA.
struct ReaderScript {
  std::string_view function;  // "evictd_fill"
  ScriptText script;
};
std::vector<ReaderScript> reader_scripts(std::chrono::milliseconds tombstone_ttl, bool is_cluster = false);

// What the refresher calls, as scripts: nothing of it is counted among what readers do.
struct RefreshScripts {
  ScriptText get;
  ScriptText fill;
  ScriptText join;     // of a cluster
  ScriptText release;  // lua/refresh.lua
};
RefreshScripts refresh_scripts(std::chrono::milliseconds tombstone_ttl, bool is_cluster);

// "evictd:{key}", or "evictd:key" when the key has a non-empty hash tag; appended to `out`.
void append_marker_name(std::string& out, std::string_view key);

// The key that counts the messages of a channel of announcements. Without braces, so that it is nobody's marker.
std::string channel_counter(std::string_view channel);

}  // namespace evictd
