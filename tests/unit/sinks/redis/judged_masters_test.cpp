// Whose data is known to be what the record says.
#include "daemon/sinks/redis/topology/judged_masters.h"

#include <gmock/gmock.h>

namespace evictd {
namespace {

using ::testing::HasSubstr;

const HostPort kA{"a", 1};
const HostPort kB{"b", 1};
const HostPort kC{"c", 1};

SlotMap split(std::size_t slots, const HostPort& first, const HostPort& second) {
  SlotMap map;
  for (std::size_t slot = 0; slot < kSlots; ++slot) map.moved(static_cast<Slot>(slot), slot < slots ? first : second);
  return map;
}

std::string process_of(const HostPort& at) { return "process of " + at.host; }
std::string not_known(const HostPort&) { return {}; }

TEST(JudgedMasters, OneThatComesBackAsItWasIsTheSame) {
  JudgedMasters judged;
  judged.judged(split(100, kA, kB), process_of);
  EXPECT_TRUE(judged.contains(kA));
  EXPECT_FALSE(judged.contains(kC));
  EXPECT_FALSE(judged.connected(kA, "process of a"));
  EXPECT_THAT(judged.connected(kA, "another")->text, HasSubstr("'a:1' came back as another process"));
  EXPECT_FALSE(judged.connected(kC, "another")) << "a node that serves nothing";
}

TEST(JudgedMasters, OneThatWasNotMetYetIsWhoComesFirst) {
  JudgedMasters judged;
  judged.judged(split(100, kA, kB), not_known);
  EXPECT_FALSE(judged.connected(kA, "first"));
  EXPECT_TRUE(judged.connected(kA, "second"));
}

TEST(JudgedMasters, ANewOneGetsItsSlotsFromOneThatIsThere) {
  JudgedMasters judged;
  const SlotMap before = split(100, kA, kB);
  judged.judged(before, process_of);
  SlotMap after = before;
  after.moved(5, kC);
  EXPECT_FALSE(judged.changed(before, after, process_of));
  EXPECT_TRUE(judged.contains(kC));
  EXPECT_TRUE(judged.connected(kC, "another")) << "its process was known";
}

TEST(JudgedMasters, ANewOneInPlaceOfOneThatIsGoneIsJudgedAnew) {
  JudgedMasters judged;
  const SlotMap before = split(100, kA, kB);
  judged.judged(before, process_of);
  const auto why = judged.changed(before, split(100, kC, kB), process_of);
  EXPECT_THAT(why->text, HasSubstr("'c:1' is a master of the cluster now, in place of 'a:1'"));
  EXPECT_FALSE(judged.contains(kC));
}

TEST(JudgedMasters, ANewOneWithSlotsThatNobodyServedIsJudgedAnew) {
  JudgedMasters judged;
  SlotMap before;
  before.moved(1, kA);
  judged.judged(before, process_of);
  SlotMap after = before;
  after.moved(2, kC);
  EXPECT_THAT(judged.changed(before, after, process_of)->text, HasSubstr("in place of 'nobody'"));
}

TEST(JudgedMasters, WhoLosesItsLastSlotMayComeBackAsAnother) {
  JudgedMasters judged;
  const SlotMap before = split(100, kA, kB);
  judged.judged(before, process_of);
  const SlotMap after = split(kSlots, kA, kB);
  EXPECT_FALSE(judged.changed(before, after, process_of)) << "whoever has its slots was judged";
  EXPECT_FALSE(judged.contains(kB));
  EXPECT_FALSE(judged.changed(after, before, process_of));
  EXPECT_FALSE(judged.connected(kB, "process of b"));
}

}  // namespace
}  // namespace evictd
