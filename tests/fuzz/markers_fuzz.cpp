// Any text in the place of a marker, before evictd's own Lua: whoever can write to Redis can write there. The first byte
// chooses what the invalidation asks; the text up to a line's end is the key's marker, what follows is that of a tag. No
// script may fail, and a value may outlive its invalidation only where the marker says, read by a second reader of our own,
// that a fill saw the transaction or that it was applied before (G5: in doubt, it goes).
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/audit/judge.h"
#include "daemon/sinks/redis/scripts.h"
#include "tests/simulation/memory_redis.h"

namespace {

using namespace evictd;
using evictd::testing::MemoryRedis;

constexpr std::uint64_t kXid = 105;
constexpr std::uint64_t kExactMax = std::uint64_t{1} << 53;
const std::string kKey = "item:1", kMarker = "evictd:{item:1}", kTagMarker = "evictd:{tag:t}";

void require(bool holds) {
  if (!holds) std::abort();
}

std::optional<std::uint64_t> number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size() || value > kExactMax) return std::nullopt;
  return value;
}

std::vector<std::string_view> split(std::string_view text, char at) {
  std::vector<std::string_view> parts;
  while (true) {
    const std::size_t end = text.find(at);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

// Whether `version` says that kXid was seen.
bool sees(std::string_view version) {
  const std::vector<std::string_view> parts = split(version, ':');
  const std::optional<std::uint64_t> low = number(parts[0]);
  if (parts.size() == 1) return low && kXid < *low;
  if (parts.size() != 3 || !low) return false;
  const std::optional<std::uint64_t> high = number(parts[1]);
  if (!high || kXid >= *high) return false;
  if (kXid < *low) return true;
  for (const std::string_view running : split(parts[2], ',')) {
    if (number(running) == kXid) return false;
  }
  return true;
}

// Whether the marker may say that kXid is behind it: by a fill that saw it, or by a tombstone of this epoch that knows it.
bool may_keep(std::string_view marker) {
  const std::vector<std::string_view> parts = split(marker, ' ');
  if (parts.size() < 3) return false;
  if (parts[0] == "f") return sees(parts[1]);
  if (parts[0] != "t" || parts[1] != "1/1") return false;
  for (const std::string_view token : split(parts[2], ',')) {
    if (number(token.substr(0, token.find_first_of("sd"))) == kXid) return true;
  }
  return false;
}

class World {
 public:
  World() : redis_(1) {
    redis_.set_time(std::chrono::seconds(1'800'000'000));
    require(!run({"FUNCTION", "LOAD", "REPLACE", function_library(std::chrono::seconds(60))}).is_error());
    require(!run({"SCRIPT", "LOAD", script(Script::kInvalidate).text}).is_error());
    require(!run({"SCRIPT", "LOAD", script(Script::kWalkBegin).text}).is_error());
  }

  Reply run(const MemoryRedis::Arguments& arguments) { return redis_.execute(client_, arguments); }
  Reply call(const MemoryRedis::Arguments& arguments) {
    Reply reply = run(arguments);
    require(!reply.is_error());
    return reply;
  }
  bool has(const std::string& key) const { return redis_.look(key) != nullptr; }
  void prepare(const std::string& marker, const std::string& tag_marker) {
    call({"SET", kKey, "value"});
    for (const auto& [name, text] : {std::pair(&kMarker, &marker), std::pair(&kTagMarker, &tag_marker)}) {
      if (text->empty()) {
        call({"DEL", *name});
      } else {
        call({"SET", *name, *text});
      }
    }
  }

 private:
  MemoryRedis redis_;
  MemoryRedis::Client client_;
};

bool is_state(const Reply& reply) {
  if (reply.kind != Reply::Kind::kArray || reply.elements.empty()) return false;
  for (const std::string_view state : {"fresh", "stale", "miss", "busy"}) {
    if (reply.elements[0].text == state) return true;
  }
  return false;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  static World& world = *new World;  // the Lua it uses is gone before statics are
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::size_t line = bytes.find('\n');
  const std::string marker(bytes.substr(0, line));
  const std::string tag_marker(line == std::string_view::npos ? "" : bytes.substr(line + 1));

  static const std::string kActs[] = {"i", "s", "r"};
  static const std::string kFlags[] = {"f", "", "u", "fh", "fk2000", "fo"};
  const std::string& flags = kFlags[data[0] / 3 % 6];
  world.prepare(marker, tag_marker);
  world.call({"EVALSHA", script(Script::kInvalidate).sha1, "2", kKey, kMarker, "1/1", "6000", kActs[data[0] % 3] + flags, "0",
              std::to_string(kXid)});
  // `mode: stale` keeps it, marked; the orphans' hunt leaves alone what no fill has left.
  if (world.has(kKey) && flags != "fk2000" && flags != "fo") require(flags != "u" && may_keep(marker));

  // A reader whose snapshot ends before the transaction.
  world.prepare(marker, tag_marker);
  const Reply filled = world.call({"FCALL", "evictd_fill", "3", kKey, kMarker, kTagMarker, "90:90:", "60000", "old"});
  require(filled.kind == Reply::Kind::kInteger);
  const std::string tombstone = "t 1/1 " + std::to_string(kXid);
  if (marker == tombstone || marker.starts_with(tombstone + " n90") || tag_marker == tombstone) require(filled.integer == 0);

  world.prepare(marker, tag_marker);
  require(is_state(world.call({"FCALL", "evictd_get", "3", kKey, kMarker, kTagMarker, "LEASE", "60000"})));
  require(is_state(world.call({"FCALL", "evictd_get", "2", kKey, kMarker, "UNLESS", "100:100:"})));
  world.prepare(marker, tag_marker);
  world.call({"FCALL", "evictd_invalidate", "2", kKey, kMarker, std::to_string(kXid)});
  world.prepare(marker, tag_marker);
  world.call({"EVALSHA", script(Script::kWalkBegin).sha1, "1", kMarker, "1/1", "6000", "iw", "0", std::to_string(kXid)});

  // The audit reads them too, in words of its own.
  AuditFacts facts;
  facts.snapshot = *Snapshot::parse("200:200:");
  facts.rows_were_read = true;
  facts.rows = {{static_cast<std::uint32_t>(kXid), ""}};
  if (judge_marker(RuleInfo{}, marker, 0, facts).verdict == AuditVerdict::kFresh) require(may_keep(marker));
  return 0;
}
