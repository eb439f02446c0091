// Markers that whoever may write markers has forged: whatever one holds, no call of ours reads or takes apart more of it than evictd
// writes, and what is longer is a marker that cannot be read (G5).
#include "tests/unit/sinks/redis/script_fixture.h"

namespace evictd::testing {
namespace {

constexpr long long kHuge = 64 << 20;
constexpr long long kReadMax = 8 << 20;  // what a call may need besides; a marker that is read is there twice at least

class LargeMarkers : public ScriptTest {
 protected:
  // In the server, without sending it.
  static void make_huge(const std::string& name, const std::string& beginning) {
    redis().command({"SET", name, beginning});
    redis().command({"SETRANGE", name, std::to_string(kHuge - 1), "1"});
    ASSERT_EQ(redis().command({"STRLEN", name}).integer, kHuge);
  }
  static long long memory(const std::string& field) {
    const std::string text = redis().command({"INFO", "memory"}).text;
    return std::stoll(text.substr(text.find(field) + field.size()));
  }
  static long long peak() { return memory("used_memory_peak:"); }
  // What the memory of the server rises by, at most, while `call` runs.
  template <typename Call>
  static void expect_not_read(const std::string& what, const Call& call) {
    SCOPED_TRACE(what);
    // A rise shows where the memory is as full as it ever was.
    if (const long long room = peak() - memory("used_memory:"); room > 1 << 20) {
      redis().command({"SETRANGE", "ballast", std::to_string(room - (1 << 20)), "x"});
    }
    const long long before = peak();
    const Reply reply = call();
    EXPECT_NE(reply.kind, Reply::Kind::kError) << reply.text;
    EXPECT_LT(peak() - before, kReadMax);
    redis().command({"UNLINK", "ballast"});
  }
  static std::vector<std::string> command(const std::string& epoch = "e/1") { return {epoch, "61000", "if", "0", "10"}; }
};

TEST_F(LargeMarkers, NoCallReadsThemWhole) {
  const std::vector<std::string> keys = {"a", "b", "c"};
  std::vector<std::string> with_markers = keys;
  for (const std::string& key : keys) with_markers.push_back(marker_of(key));
  std::vector<std::string> in_a_walk = with_markers;
  in_a_walk.insert(in_a_walk.begin(), "tag:t");
  const std::string tag = marker_of("tag:t");
  const auto forge = [&](const std::string& name, const std::string& beginning) {
    redis().command({"FLUSHDB"});
    for (const std::string& key : keys) redis().set(key, "v");
    make_huge(name, beginning);
  };
  for (const std::string beginning : {"t e/1 10", "f 1:20:", "x"}) {
    SCOPED_TRACE(beginning);
    forge(marker_of("b"), beginning);
    expect_not_read("invalidate", [&] { return run(Script::kInvalidate, with_markers, command()); });
    for (const std::string& key : keys) EXPECT_FALSE(redis().exists(key)) << key;
    EXPECT_EQ(marker("b"), "t e/1 10");
    forge(marker_of("a"), beginning);
    expect_not_read("one key", [&] { return run(Script::kInvalidate, {"a", marker_of("a")}, command()); });
    EXPECT_FALSE(redis().exists("a"));
    forge(marker_of("b"), beginning);
    expect_not_read("members of a walk", [&] { return run(Script::kWalkMembers, in_a_walk, command()); });
    EXPECT_FALSE(redis().exists("b"));
    forge(marker_of("b"), beginning);
    expect_not_read("keys of many slots", [&] {
      return run(Script::kScattered, {}, {"e/1", "61000", "if", "0", "3", "a", "b", "c", "10"});
    });
    EXPECT_FALSE(redis().exists("b"));
    for (const Script which : {Script::kWalkBegin, Script::kWalkFinish, Script::kLazyTags}) {
      forge(tag, beginning);
      expect_not_read("walk " + std::to_string(static_cast<int>(which)), [&] { return run(which, {tag}, command()); });
      EXPECT_LT(redis().get(tag).size(), 100u);
    }
    forge("ns:1", beginning);
    expect_not_read("counter", [&] { return run(Script::kRaise, {"ns:1", marker_of("ns:1")}, {"e/1", "61000", "ip", "0", "10"}); });
    forge(marker_of("a"), beginning);
    expect_not_read("fill", [&] { return call({"evictd_fill", "2", "a", marker_of("a"), "50:50:", "60000", "new"}); });
    EXPECT_EQ(redis().get("a"), beginning[0] == 't' ? "v" : "new") << "what may be a tombstone allows no fill";
    forge(marker_of("a"), beginning);
    expect_not_read("get", [&] { return call({"evictd_get", "2", "a", marker_of("a"), "LEASE", "1000"}); });
    expect_not_read("get of what is not there", [&] {
      redis().command({"UNLINK", "a"});
      return call({"evictd_get", "2", "a", marker_of("a"), "LEASE", "1000"});
    });
    forge(marker_of("a"), beginning);
    expect_not_read("writer", [&] { return call({"evictd_invalidate", "2", "a", marker_of("a"), "10"}); });
    EXPECT_FALSE(redis().exists("a"));
    forge(tag, beginning);
    expect_not_read("fill with a tag", [&] { return call({"evictd_fill", "3", "a", marker_of("a"), "tag:t", "50:50:", "60000", "new"}); });
    expect_not_read("fill with a lazy tag", [&] { return call({"evictd_fill", "3", "a", marker_of("a"), tag, "50:50:", "60000", "new"}); });
    expect_not_read("get with a lazy tag", [&] { return call({"evictd_get", "3", "a", marker_of("a"), tag}); });
    forge(tag, beginning);
    expect_not_read("join", [&] { return call({"evictd_join", "2", "tag:t", tag, "a", "60000", "50:50:"}); });
    expect_not_read("seen", [&] { return call({"evictd_seen", "1", tag, "50:50:"}); });
  }
}

std::string repeated(const std::string& unit, std::size_t bytes) {
  std::string text;
  while (text.size() + unit.size() < bytes) text += unit;
  return text;
}

// Each of these says that 10 was seen or done before, which is believed of a marker that evictd may have written.
TEST_F(LargeMarkers, MoreThanEvictdWritesProvesNothing) {
  const std::vector<std::pair<std::string, std::string>> forged = {
      {"tokens", "t *1700000000000 10," + repeated("11,", 300) + "12"},
      {"many tokens", "t e/1 10," + repeated("11,", 3000) + "12"},
      {"one long token", "t e/1 10," + std::string(3000, '1')},
      {"row versions", "t e/1 10," + repeated("v1,", 60) + "v2"},
      {"a long snapshot", "f 5:20:" + repeated("11,", 2200) + "12 1700000000000"},
      {"fields", "f 5:20: 1700000000000" + repeated(" d1", 40)},
  };
  for (const auto& [name, text] : forged) {
    SCOPED_TRACE(name);
    redis().set("k", "v");
    set_marker("k", text);
    EXPECT_EQ(invalidate("k", "10", {.flags = "if"}), "deleted");
    EXPECT_EQ(marker("k"), "t e/1 10");
    if (text[0] != 't') continue;
    set_marker("k", text);
    EXPECT_EQ(fill("k", "5000:5000:"), 0) << "in doubt, no fill";
  }
}

TEST_F(LargeMarkers, WhatEvictdWritesIsBelieved) {
  std::string full = "10";
  for (int i = 1; i < 32; ++i) full += "," + std::to_string(1'000'000'000'000 + i);
  const std::string snapshot = "5:20:" + repeated("11,", 2000) + "12";
  redis().set("k", "v");
  set_marker("k", "t e/1 " + full + " n" + snapshot);
  EXPECT_EQ(invalidate("k", "10", {.flags = "if"}), "replayed");
  set_marker("k", "f " + snapshot + " 1700000000000 d5 l1-2:1700000000000");
  EXPECT_EQ(invalidate("k", "10", {.flags = "if"}), "kept");
  set_marker("k", "f " + snapshot + " 1700000000000");
  EXPECT_EQ(invalidate("k", "10", {.flags = "if"}), "kept");
  EXPECT_EQ(invalidate("k", "12", {.flags = "if"}), "deleted");
  EXPECT_EQ(marker("k"), "t e/1 12 n" + snapshot);
}

// A tombstone that is compacted under a long snapshot stays one that can be read.
TEST_F(LargeMarkers, CompactedTombstoneCanBeRead) {
  std::string running;
  for (int i = 0; i < 1000; ++i) running += (i == 0 ? "" : ",") + std::to_string(1'000'000'000 + i);
  for (int i = 1; i <= 40; ++i) invalidate("k", std::to_string(i), {.trust_since = "0 1000000000:1000002000:" + running});
  EXPECT_LT(marker("k").size(), 8192u);
  EXPECT_EQ(fill("k", "5000:5000:"), 1);
}

// The lines that were documented before GETRANGE was asked for.
TEST_F(LargeMarkers, UserWithoutTheRightGoesOnAsBefore) {
  const auto as_before = [](const std::vector<std::string>& words) {
    RedisClient client(server_->port());
    client.command({"AUTH", "old", "pw"});
    return client.command(words);
  };
  redis().command({"ACL", "SETUSER", "old", "on", ">pw", "~*", "+@all", "-getrange", "-exists"});
  redis().command({"MSET", "a", "v", "b", "v"});
  set_marker("b", "f 5:20: 1700000000000");
  EXPECT_EQ(as_before({"EVAL", std::string(script(Script::kInvalidate).text), "4", "a", "b", marker_of("a"), marker_of("b"), "e/1", "61000", "if", "0", "10"})
                .elements.at(1).integer, 1);
  EXPECT_FALSE(redis().exists("a"));
  EXPECT_TRUE(redis().exists("b"));
  EXPECT_EQ(as_before({"FCALL", "evictd_fill", "2", "a", marker_of("a"), "9:9:", "60000", "new"}).integer, 0);
  EXPECT_EQ(as_before({"FCALL", "evictd_fill", "2", "a", marker_of("a"), "11:11:", "60000", "new"}).integer, 1);
  redis().command({"ACL", "DELUSER", "old"});
}

}  // namespace
}  // namespace evictd::testing
