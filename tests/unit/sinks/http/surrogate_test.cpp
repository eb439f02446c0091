// The spelling of surrogate keys: what readers copy into their headers, so it never changes.
#include "daemon/sinks/http/surrogate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

namespace evictd {
namespace {

TEST(SurrogateKey, OrdinaryKeysStandForThemselves) {
  for (const EdgeKind kind : kEdgeKinds) {
    EXPECT_EQ(spell_surrogate_key("product-17", kind), "product-17");
    EXPECT_EQ(spell_surrogate_key("shop:a/b@c.d~e_f+g=h!i$", kind), "shop:a/b@c.d~e_f+g=h!i$");
  }
}

TEST(SurrogateKey, WhatAServiceCannotCarryIsEscaped) {
  EXPECT_EQ(spell_surrogate_key("a b,c", EdgeKind::kFastly), "a%20b%2cc");
  EXPECT_EQ(spell_surrogate_key("100%", EdgeKind::kVarnish), "100%25");
  EXPECT_EQ(spell_surrogate_key("gr\xc3\xbc" "n\r\nx", EdgeKind::kHttp), "gr%c3%bcn%0d%0ax");
  EXPECT_EQ(spell_surrogate_key(std::string_view("\0\x7f\xff\"", 4), EdgeKind::kFastly), "%00%7f%ff%22");
  EXPECT_EQ(spell_surrogate_key("", EdgeKind::kFastly), "%empty");
}

// Cloudflare purges 'A' with 'a'.
TEST(SurrogateKey, CapitalsAreEscapedWhereCaseIsIgnored) {
  EXPECT_EQ(spell_surrogate_key("Product", EdgeKind::kCloudflare), "%50roduct");
  EXPECT_EQ(spell_surrogate_key("Product", EdgeKind::kFastly), "Product");
  EXPECT_EQ(spell_surrogate_key("a\xffZ", EdgeKind::kCloudflare), "a%ff%5a");
}

TEST(SurrogateKey, WhatIsTooLongIsNamedByItsHash) {
  const std::string longest(kSurrogateBytesMax, 'x');
  EXPECT_EQ(spell_surrogate_key(longest, EdgeKind::kFastly), longest);
  EXPECT_EQ(spell_surrogate_key(std::string(1025, 'a'), EdgeKind::kFastly).substr(0, 8), "%sha256-");
  EXPECT_EQ(spell_surrogate_key(std::string(400, ' '), EdgeKind::kVarnish).size(), 8u + 64u);
  EXPECT_NE(spell_surrogate_key(std::string(400, ' '), EdgeKind::kVarnish),
            spell_surrogate_key(std::string(401, ' '), EdgeKind::kVarnish));
}

// No key has the spelling that stands for another one's hash, or for the empty one.
TEST(SurrogateKey, NoKeySpellsAnothersHash) {
  for (const EdgeKind kind : kEdgeKinds) {
    const std::string spelled = spell_surrogate_key(std::string(2000, 'a'), kind);
    EXPECT_NE(spell_surrogate_key(spelled, kind), spelled);
    EXPECT_NE(spell_surrogate_key("%empty", kind), "%empty");
  }
}

TEST(SurrogateKey, NoTwoKeysShareASpelling) {
  const char* given = std::getenv("EVICTD_SEED");
  const std::uint32_t seed = given != nullptr ? static_cast<std::uint32_t>(std::stoul(given)) : std::random_device{}();
  std::mt19937 random(seed);
  const std::string alphabet("aA% ,-e\0\xffmpt2520sh", 18);
  for (const EdgeKind kind : kEdgeKinds) {
    std::map<std::string, std::string> by_spelling;  // compared as the service compares them
    for (int i = 0; i < 20000; ++i) {
      std::string key;
      const std::size_t length = i % 50 == 0 ? 1000 + random() % 200 : random() % 7;
      while (key.size() < length) key += alphabet[random() % alphabet.size()];
      std::string spelled = spell_surrogate_key(key, kind);
      ASSERT_FALSE(spelled.empty());
      ASSERT_LE(spelled.size(), kSurrogateBytesMax);
      for (const char c : spelled) ASSERT_TRUE(c > 0x20 && c < 0x7f && c != ',' && c != '"' && c != '\\') << "seed " << seed;
      if (kind == EdgeKind::kCloudflare) std::transform(spelled.begin(), spelled.end(), spelled.begin(), ::tolower);
      const auto [place, is_new] = by_spelling.emplace(spelled, key);
      ASSERT_TRUE(is_new || place->second == key) << "seed " << seed << ": " << spelled;
    }
  }
}

}  // namespace
}  // namespace evictd
