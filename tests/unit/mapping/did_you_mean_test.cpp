#include "mapping/did_you_mean.h"

#include <gtest/gtest.h>

#include <array>

namespace evictd {
namespace {

constexpr std::array<std::string_view, 4> kNames = {"table", "keys", "tags", "when_changed"};

TEST(DidYouMean, FindsSlipsOfTheHand) {
  EXPECT_EQ(nearest_name("kyes", kNames), "keys");    // swapped
  EXPECT_EQ(nearest_name("key", kNames), "keys");     // left out
  EXPECT_EQ(nearest_name("tabel", kNames), "table");  // swapped
  EXPECT_EQ(nearest_name("tagss", kNames), "tags");   // doubled
  EXPECT_EQ(nearest_name("when-changed", kNames), "when_changed");
}

TEST(DidYouMean, TheSameInOtherLettersIsNearest) {
  constexpr std::array<std::string_view, 3> kColumns = {"upped", "Supper", "UPPER"};
  EXPECT_EQ(nearest_name("upper", kColumns), "UPPER");
  EXPECT_EQ(same_but_for_case("UPPED", kColumns), "upped");
  EXPECT_EQ(same_but_for_case("uppe", kColumns), "");
}

TEST(DidYouMean, ProposesNothingWhenNothingIsNear) {
  EXPECT_EQ(nearest_name("purge", kNames), "");
  EXPECT_EQ(nearest_name("", kNames), "");
  EXPECT_EQ(nearest_name(std::string(1000, 'k'), kNames), "");
}

TEST(DidYouMean, HintNamesTheNearestOrElseAll) {
  EXPECT_EQ(did_you_mean("kyes", kNames, "settings"), "did you mean 'keys'?");
  EXPECT_EQ(did_you_mean("colour", kNames, "settings"),
            "known settings: 'table', 'keys', 'tags', 'when_changed'");
}

}  // namespace
}  // namespace evictd
