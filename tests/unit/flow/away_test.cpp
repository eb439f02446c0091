// The beginning of an absence is told by who saw it; this is the middle and the end.
#include "daemon/flow/away.h"

#include <gtest/gtest.h>

namespace evictd {
namespace {

using std::chrono::seconds;

SteadyTime at(int s) { return SteadyTime() + seconds(1000 + s); }

TEST(Away, SaysHowLongItWasWhenItIsOver) {
  Away away;
  EXPECT_EQ(away.ended(at(0)), "") << "it was not away";
  away.began(at(0));
  away.began(at(5));
  EXPECT_EQ(away.ended(at(11)), " after 11.0 s") << "since it was lost, not since the last try";
  EXPECT_EQ(away.ended(at(12)), "");
}

TEST(Away, IsToldOfWithGrowingPauses) {
  Away away;
  EXPECT_EQ(away.still(at(0)), std::nullopt);
  away.began(at(0));
  std::string told;
  for (int s = 0; s <= 8 * 3600; ++s) {
    if (const auto text = away.still(at(s))) told += *text + "; ";
  }
  EXPECT_EQ(told, "for 60.0 s; for 180.0 s; for 420.0 s; for 900.0 s; for 1860.0 s; for 3780.0 s; for 7380.0 s; for 10980.0 s; for 14580.0 s; "
                  "for 18180.0 s; for 21780.0 s; for 25380.0 s; ");
  (void)away.ended(at(8 * 3600));
  EXPECT_EQ(away.still(at(9 * 3600)), std::nullopt);
  away.began(at(10 * 3600));
  EXPECT_EQ(away.still(at(10 * 3600 + 60)), "for 60.0 s") << "of each absence anew";
}

}  // namespace
}  // namespace evictd
