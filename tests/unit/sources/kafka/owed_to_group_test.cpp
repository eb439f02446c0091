// What the group waits for from us.
#include "daemon/sources/kafka/owed_to_group.h"

#include <gtest/gtest.h>

namespace evictd {
namespace {

constexpr SteadyTime at(int ms) { return SteadyTime(std::chrono::milliseconds(ms)); }
const TopicPartition kOne{"t", 1};
const TopicPartition kTwo{"t", 2};
const TopicPartition kThree{"t", 3};
using Places = std::vector<TopicPartition>;

TEST(OwedToGroupTest, WhatIsGivenIsLookedUpAndTaken) {
  OwedToGroup owed;
  EXPECT_FALSE(owed.looks_up()) << "nothing is to be taken";
  owed.gives({kOne, kTwo});
  EXPECT_EQ(owed.looks_up(), (Places{kOne, kTwo}));
  EXPECT_FALSE(owed.looks_up()) << "one at a time";
  EXPECT_TRUE(owed.looked_up({kOne, kTwo}));
  owed.took();
  EXPECT_FALSE(owed.looks_up());
}

TEST(OwedToGroupTest, NothingIsAnAnswerAsWell) {
  OwedToGroup owed;
  owed.gives({});
  EXPECT_EQ(owed.looks_up(), Places{}) << "the group waits for it";
  EXPECT_TRUE(owed.looked_up({}));
}

TEST(OwedToGroupTest, WhatIsGivenMeanwhileIsLookedUpWithTheRest) {
  OwedToGroup owed;
  owed.gives({kOne});
  owed.looks_up();
  owed.gives({kTwo, kOne});
  EXPECT_FALSE(owed.looked_up({kOne}));
  EXPECT_EQ(owed.looks_up(), (Places{kOne, kTwo}));
}

TEST(OwedToGroupTest, WhatIsTakenBackMeanwhileIsNotTaken) {
  OwedToGroup owed;
  owed.gives({kOne, kTwo});
  owed.looks_up();
  EXPECT_FALSE(owed.takes({kOne})) << "the other one is still to be taken";
  EXPECT_FALSE(owed.looked_up({kOne, kTwo}));
  EXPECT_EQ(owed.looks_up(), Places{kTwo});
  EXPECT_TRUE(owed.takes({kTwo, kThree}));
  EXPECT_FALSE(owed.looked_up({kTwo}));
  EXPECT_FALSE(owed.looks_up());
  EXPECT_FALSE(owed.takes({kThree})) << "of that nothing was to be taken";
}

TEST(OwedToGroupTest, ALookUpWithoutAnAnswerIsMadeAgainALittleLater) {
  OwedToGroup owed;
  EXPECT_EQ(owed.look_up_due(), SteadyTime::max());
  owed.gives({kOne});
  owed.looks_up();
  EXPECT_TRUE(owed.looked_up({kOne}));
  owed.looks_up_again(at(1000));
  EXPECT_EQ(owed.look_up_due(), at(1500));
  EXPECT_EQ(owed.looks_up(), Places{kOne});
  EXPECT_EQ(owed.look_up_due(), SteadyTime::max());
}

TEST(OwedToGroupTest, WhatIsWantedBackWaitsUntilItIsFinishedAndNoLonger) {
  OwedToGroup owed;
  EXPECT_FALSE(owed.gives_back(false, at(0)));
  owed.wants_back({kOne}, at(5000));
  EXPECT_EQ(owed.give_back_by(), at(5000));
  EXPECT_FALSE(owed.gives_back(true, at(4999)));
  EXPECT_TRUE(owed.gives_back(false, at(0)));
  EXPECT_TRUE(owed.gives_back(true, at(5000)));
  EXPECT_EQ(owed.to_give_back(), Places{kOne});
  owed.gave_back();
  EXPECT_FALSE(owed.gives_back(false, at(9000)));
  EXPECT_EQ(owed.give_back_by(), SteadyTime::max());
  EXPECT_TRUE(owed.to_give_back().empty());
}

TEST(OwedToGroupTest, WhoLeavesTakesNothingAndWaitsForNoLookUp) {
  OwedToGroup owed;
  EXPECT_FALSE(owed.leaves());
  owed.gives({kOne});
  owed.looks_up();
  EXPECT_TRUE(owed.leaves());
  EXPECT_FALSE(owed.looks_up());
  owed.gives({kTwo});
  EXPECT_EQ(owed.looks_up(), Places{kTwo}) << "the next client does not wait for the answer of the last one";
  owed.looked_up({kTwo});
  owed.looks_up_again(at(0));
  owed.leaves();
  EXPECT_EQ(owed.look_up_due(), SteadyTime::max());
}

}  // namespace
}  // namespace evictd
