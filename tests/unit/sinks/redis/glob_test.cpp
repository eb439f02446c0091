// Globs as Redis has them: by examples, and against a real Redis on random ones.
#include "daemon/sinks/redis/glob.h"

#include <gmock/gmock.h>

#include <random>
#include <set>

#include "tests/support/redis_server.h"

namespace evictd::testing {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> matched(std::string_view glob, const std::vector<std::string>& names) {
  std::vector<std::string> matched;
  for (const std::string& name : names) {
    if (Glob(glob).matches(name)) matched.push_back(name);
  }
  return matched;
}

TEST(Glob, Examples) {
  EXPECT_THAT(matched("product:*", {"product:", "product:1", "product", "a product:1"}), ElementsAre("product:", "product:1"));
  EXPECT_THAT(matched("*:p?:*x", {":pa:x", "a:b:p1:yxx", ":p::x", "a:p1:xy"}), ElementsAre(":pa:x", "a:b:p1:yxx", ":p::x"));
  EXPECT_THAT(matched("a\\*b", {"a*b", "axb"}), ElementsAre("a*b"));
  EXPECT_THAT(matched("[a-c]", {"a", "c", "d", "-", ""}), ElementsAre("a", "c"));
  EXPECT_THAT(matched("[c-a]", {"b"}), ElementsAre("b"));
  EXPECT_THAT(matched("[^a-c]", {"a", "d", "]"}), ElementsAre("d", "]"));
  EXPECT_THAT(matched("[\\]a]", {"]", "a", "\\"}), ElementsAre("]", "a"));
  EXPECT_THAT(matched("[]", {"", "a", "]"}), ElementsAre());
  EXPECT_THAT(matched("[ab", {"a", "b", "["}), ElementsAre("a", "b"));
  EXPECT_THAT(matched("a\\", {"a\\", "a"}), ElementsAre("a\\"));
  EXPECT_THAT(matched("", {"", "a"}), ElementsAre(""));
  EXPECT_THAT(matched("*", {"", "a"}), ElementsAre("", "a"));
  EXPECT_THAT(matched("[\x80-\xff]", {"\x7f", "\x80", "\xff"}), ElementsAre("\x80", "\xff"));
}

TEST(Glob, ItsPrefixIsWhatEveryMatchBeginsWith) {
  EXPECT_EQ(Glob("product:*").prefix(), "product:");
  EXPECT_EQ(Glob("a\\*[b]").prefix(), "a*");
  EXPECT_EQ(Glob("*a").prefix(), "");
  EXPECT_TRUE(Glob("a\\?b").is_literal());
  EXPECT_FALSE(Glob("a?").is_literal());
  EXPECT_EQ(common_prefix("product:1", "product:2"), "product:");
  EXPECT_EQ(common_prefix("ab", "abc"), "ab");
  EXPECT_EQ(common_prefix("a", ""), "");
  EXPECT_TRUE(Glob(glob_of_prefix("a*[?\\]")).matches("a*[?\\]z"));
  EXPECT_FALSE(Glob(glob_of_prefix("a*")).matches("ab"));
}

TEST(Glob, ItsSampleIsANameThatMatches) {
  for (const auto& [glob, sample] : {std::pair{"page:[ab]:*", "page:a:x"}, {"a?\\*\\[b", "ax*[b"}, {"[0-9][^x]", "0a"}, {"[\\]-]", "-"}, {"[w-z]*", "xx"},
                                     {"[z-\xff", "x"}, {"[^a-zA-Z]", "0"}, {"plain", "plain"}, {"", ""}}) {
    EXPECT_EQ(Glob(glob).sample(), sample) << glob;
    EXPECT_TRUE(Glob(glob).matches(sample)) << glob;
  }
  EXPECT_EQ(Glob("a[]b").sample(), std::nullopt);
}

// A name that is nearly what a glob of many '*' asks for must not cost more than name times glob.
TEST(Glob, ManyWildcardsEnd) {
  std::string glob;
  for (int i = 0; i < 200; ++i) glob += "a*";
  EXPECT_FALSE(Glob(glob + "b").matches(std::string(20'000, 'a')));
}

std::string random_text(std::mt19937& random, std::string_view letters, std::size_t most) {
  std::string text(random() % (most + 1), ' ');
  for (char& letter : text) letter = letters[random() % letters.size()];
  return text;
}

TEST(Glob, AgreesWithRedis) {
  EVICTD_NEED_REDIS();
  RedisServer server;
  std::mt19937 random(static_cast<unsigned>(::testing::UnitTest::GetInstance()->random_seed()));
  const std::string names_of(std::string_view("ab-]^[\\*?:\0\xff", 12));
  const std::string globs_of(std::string_view("ab-]^[[[\\**?:\0\xff", 15));
  std::vector<std::string> names;
  std::vector<std::string> set = {"MSET"};
  for (int i = 0; i < 3000; ++i) names.push_back(random_text(random, names_of, 1 + static_cast<std::size_t>(i) % 6));
  for (const std::string& name : names) set.insert(set.end(), {name, "v"});
  server.client().command(set);
  for (int i = 0; i < 2000; ++i) {
    const std::string text = random_text(random, globs_of, 8);
    const Glob glob(text);
    const auto sample = glob.sample();
    EXPECT_TRUE(!sample || glob.matches(*sample)) << "glob '" << ::testing::PrintToString(text) << "'";
    std::set<std::string> expected;
    for (const Reply& key : server.client().command(std::vector<std::string>{"KEYS", text}).elements) expected.insert(key.text);
    std::set<std::string> found;
    for (const std::string& name : names) {
      if (!glob.matches(name)) continue;
      found.insert(name);
      EXPECT_TRUE(name.starts_with(glob.prefix())) << text;
    }
    ASSERT_EQ(found, expected) << "glob '" << ::testing::PrintToString(text) << "'";
  }
}

}  // namespace
}  // namespace evictd::testing
