// The refresher's queue, in simulated time: what waits, in which pace and order it goes, and what is dropped.
#include "daemon/refresh/queue.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

namespace evictd {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using Added = RefreshQueue::Added;

constexpr SteadyTime kStart{seconds(1'000'000)};

std::vector<std::string> keys_of(const std::optional<RefreshBatch>& batch) {
  std::vector<std::string> keys;
  if (batch) {
    for (const RefreshEntry& entry : batch->entries) keys.push_back(entry.key);
  }
  return keys;
}

class Queue : public testing::Test {
 protected:
  RefreshQueue make(RefreshQueue::Limits limits, std::uint64_t per_second = 0) {
    RefreshQueue queue(limits);
    queue.set_pace("a", per_second, kStart);
    return queue;
  }
};

TEST_F(Queue, GivesKeysInTheirOrderAndAKeyThatWaitsIsNotTakenTwice) {
  RefreshQueue queue = make({});
  EXPECT_EQ(queue.add("a", "1", ""), Added::kQueued);
  EXPECT_EQ(queue.add("a", "2", ""), Added::kQueued);
  EXPECT_EQ(queue.add("a", "1", ""), Added::kCoalesced);
  EXPECT_EQ(queue.size(), 2u);
  EXPECT_THAT(keys_of(queue.take(kStart)), ElementsAre("1", "2"));
  EXPECT_EQ(queue.size(), 0u);
  EXPECT_EQ(queue.take(kStart), std::nullopt);
  // Once taken it may come again: it was deleted again, and what is being read may be the old row.
  EXPECT_EQ(queue.add("a", "1", ""), Added::kQueued);
}

TEST_F(Queue, WhatFindsNoRoomIsDropped) {
  RefreshQueue queue = make({2, 1 << 20, 100});
  queue.set_pace("b", 0, kStart);
  EXPECT_EQ(queue.add("a", "1", ""), Added::kQueued);
  EXPECT_EQ(queue.add("b", "2", ""), Added::kQueued);
  EXPECT_EQ(queue.add("a", "3", ""), Added::kDropped);
  EXPECT_EQ(queue.add("nobody's", "3", ""), Added::kDropped) << "a rule that is not known";
  (void)queue.take(kStart);
  EXPECT_EQ(queue.add("a", "3", ""), Added::kQueued);
}

TEST_F(Queue, BytesAreBoundedToo) {
  RefreshQueue queue = make({1'000'000, 100'000, 100});
  const std::string long_key(10'000, 'k');
  std::size_t queued = 0;
  for (int i = 0; i < 100; ++i) queued += queue.add("a", long_key + std::to_string(i), "") == Added::kQueued ? 1 : 0;
  EXPECT_EQ(queued, 4u);
  while (queue.take(kStart)) {
  }
  EXPECT_EQ(queue.add("a", long_key, ""), Added::kQueued) << "room comes back";
  EXPECT_EQ(queue.clear("a"), 1u);
  queued = 0;
  for (int i = 0; i < 100; ++i) queued += queue.add("a", long_key + std::to_string(i), "") == Added::kQueued ? 1 : 0;
  EXPECT_EQ(queued, 4u);
}

TEST_F(Queue, KeepsThePaceOfTheRule) {
  for (const std::uint64_t per_second : {1ULL, 10ULL, 500ULL, 1000ULL, 20'000ULL}) {
    RefreshQueue queue = make({100'000, 1 << 30, 100}, per_second);
    for (int i = 0; i < 100'000; ++i) (void)queue.add("a", std::to_string(i), "");
    SteadyTime now = kStart;
    std::uint64_t taken = 0;
    std::uint64_t questions = 0;
    while (now < kStart + seconds(5)) {
      if (const auto batch = queue.take(now)) {
        taken += batch->entries.size();
        ++questions;
        EXPECT_LE(batch->entries.size(), 100u);
      } else {
        EXPECT_GT(queue.due(now), now);
        now = queue.due(now);
      }
    }
    const std::uint64_t most = 5 * per_second + std::max<std::uint64_t>(per_second / 20, 1);
    EXPECT_LE(taken, most) << per_second;
    EXPECT_GE(taken, std::min<std::uint64_t>(5 * per_second * 9 / 10, 100'000)) << per_second;
    const std::uint64_t together = std::max(per_second / 100, std::min<std::uint64_t>(per_second / 20, 10));
    EXPECT_LE(questions, taken / std::clamp<std::uint64_t>(together, 1, 100) + 2) << "a question is asked for several keys";
  }
}

TEST_F(Queue, APauseSavesNothingUp) {
  RefreshQueue queue = make({}, 100);
  for (int i = 0; i < 1000; ++i) (void)queue.add("a", std::to_string(i), "");
  (void)queue.take(kStart);
  std::size_t taken = 0;
  while (const auto batch = queue.take(kStart + seconds(3600))) taken += batch->entries.size();
  EXPECT_EQ(taken, 5u) << "what an hour would have allowed is not made up for at once";
}

TEST_F(Queue, RulesTakeTurnsWhateverWaitsOfEach) {
  RefreshQueue queue = make({});
  queue.set_pace("b", 0, kStart);
  for (int i = 0; i < 1000; ++i) (void)queue.add("a", std::to_string(i), "");
  (void)queue.add("b", "x", "");
  EXPECT_EQ(queue.take(kStart)->rule, "a");
  EXPECT_EQ(queue.take(kStart)->rule, "b");
  EXPECT_EQ(queue.take(kStart)->rule, "a");
}

TEST_F(Queue, ARuleThatIsSuspendedKeepsNobodyFromTheirTurn) {
  RefreshQueue queue = make({});
  queue.set_pace("b", 0, kStart);
  (void)queue.add("a", "1", "");
  (void)queue.add("b", "2", "");
  queue.suspend("a", kStart + seconds(5));
  EXPECT_EQ(queue.take(kStart)->rule, "b");
  EXPECT_EQ(queue.take(kStart), std::nullopt);
  EXPECT_EQ(queue.due(kStart), kStart + seconds(5));
  EXPECT_EQ(queue.take(kStart + seconds(5))->rule, "a");
}

TEST_F(Queue, WhatWasNotFilledComesBackLaterAndIsGivenUpInTheEnd) {
  RefreshQueue queue = make({});
  (void)queue.add("a", "1", "");
  SteadyTime now = kStart;
  SteadyTime before = now;
  int tries = 0;
  while (auto batch = queue.take(now)) {
    ++tries;
    ASSERT_EQ(batch->entries.size(), 1u);
    const bool comes_back = queue.retry("a", batch->entries[0], now);
    EXPECT_EQ(queue.take(now), std::nullopt) << "not at once";
    if (!comes_back) break;
    before = now;
    now = queue.due(now);
    ASSERT_NE(now, SteadyTime::max());
    EXPECT_GT(now, before);
  }
  EXPECT_EQ(tries, 1 + static_cast<int>(std::size(RefreshQueue::kRetryAfter)));
  EXPECT_GT(now, kStart + seconds(20)) << "long enough for a commit that hangs for a while";
  EXPECT_EQ(queue.size(), 0u);
}

TEST_F(Queue, AKeyThatIsDeletedAgainWhileItWaitsForItsNextTryWaitsOnce) {
  RefreshQueue queue = make({});
  (void)queue.add("a", "1", "");
  auto batch = queue.take(kStart);
  EXPECT_TRUE(queue.retry("a", batch->entries[0], kStart));
  EXPECT_EQ(queue.add("a", "1", ""), Added::kCoalesced);
  batch = queue.take(kStart + seconds(1));
  EXPECT_THAT(keys_of(batch), ElementsAre("1"));
  EXPECT_EQ(queue.add("a", "1", ""), Added::kQueued);
  EXPECT_TRUE(queue.retry("a", batch->entries[0], kStart + seconds(1)));
  EXPECT_EQ(queue.size(), 1u);
}

// A worker that saw the first change alone would fill what the second one has made old: refused, and told of by nothing more.
TEST_F(Queue, AKeyThatIsDeletedAgainWhileItWaitsAsksForTheLaterChangeToo) {
  RefreshQueue queue = make({});
  (void)queue.add("a", "1", "10,11");
  EXPECT_EQ(queue.add("a", "1", "~12"), Added::kCoalesced);
  auto batch = queue.take(kStart);
  EXPECT_EQ(batch->entries[0].version, "10,11,~12");
  (void)queue.add("a", "1", "13");
  EXPECT_TRUE(queue.retry("a", batch->entries[0], kStart)) << "deleted again while it was being filled";
  EXPECT_EQ(queue.take(kStart)->entries[0].version, "10,11,~12,13");
  (void)queue.add("a", "1", "14");
  batch = queue.take(kStart);
  EXPECT_TRUE(queue.retry("a", batch->entries[0], kStart));
  EXPECT_EQ(queue.add("a", "1", "15"), Added::kCoalesced);
  EXPECT_EQ(queue.take(kStart + seconds(1))->entries[0].version, "14,15");
}

TEST(JoinedVersion, IsOfTheLastTransactionsOrOfTheLaterRow) {
  EXPECT_EQ(joined_version("", "1"), "1");
  EXPECT_EQ(joined_version("1", ""), "1");
  EXPECT_EQ(joined_version("1,2,3,4,5", "6,7,8,9,10"), "3,4,5,6,7,8,9,10");
  EXPECT_EQ(joined_version("v7", "v8"), "v8");
}

// Each key's bytes are given back as they were taken, whatever its version has become.
TEST_F(Queue, GivesBackTheBytesOfAVersionThatHasGrown) {
  RefreshQueue queue = make({100, 400, 10});
  for (int round = 0; round < 20; ++round) {
    EXPECT_EQ(queue.add("a", "1", "100"), Added::kQueued) << round;
    EXPECT_EQ(queue.add("a", "1", "101,102,103,104"), Added::kCoalesced);
    if (round % 2 == 0) {
      EXPECT_EQ(keys_of(queue.take(kStart)).size(), 1u);
    } else {
      EXPECT_EQ(queue.clear("a"), 1u);
    }
  }
}

TEST_F(Queue, ARuleThatIsGoneTakesItsKeysWithIt) {
  RefreshQueue queue = make({});
  (void)queue.add("a", "1", "");
  (void)queue.add("a", "2", "");
  auto batch = queue.take(kStart);
  (void)queue.add("a", "3", "");
  EXPECT_EQ(queue.forget("a"), 1u);
  EXPECT_FALSE(queue.retry("a", batch->entries[0], kStart));
  EXPECT_EQ(queue.size(), 0u);
  EXPECT_EQ(queue.due(kStart), SteadyTime::max());
}

TEST_F(Queue, NothingIsLostOrCountedTwiceWhateverHappens) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    RefreshQueue queue({50, 1 << 20, 7});
    SteadyTime now = kStart;
    std::set<std::pair<std::string, std::string>> waits;  // the model
    std::vector<RefreshBatch> taken;
    for (const char* rule : {"a", "b", "c"}) queue.set_pace(rule, random() % 2 == 0 ? 0 : 200, now);
    for (int step = 0; step < 500; ++step) {
      now += milliseconds(random() % 20);
      const std::string rule(1, static_cast<char>('a' + random() % 3));
      switch (random() % 6) {
        case 0:
          if (auto batch = queue.take(now)) {
            for (const RefreshEntry& entry : batch->entries) ASSERT_EQ(waits.erase({batch->rule, entry.key}), 1u);
            taken.push_back(std::move(*batch));
          }
          break;
        case 1:
          if (!taken.empty()) {
            for (RefreshEntry& entry : taken.back().entries) {
              if (queue.retry(taken.back().rule, entry, now)) waits.insert({taken.back().rule, entry.key});
            }
            taken.pop_back();
          }
          break;
        case 2:
          if (random() % 20 == 0) {
            const auto of_rule = static_cast<std::size_t>(std::count_if(waits.begin(), waits.end(), [&](const auto& one) { return one.first == rule; }));
            ASSERT_EQ(queue.clear(rule), of_rule);
            std::erase_if(waits, [&](const auto& one) { return one.first == rule; });
          }
          break;
        default: {
          const std::string key = std::to_string(random() % 100);
          const bool waited = waits.contains({rule, key});
          const bool is_full = waits.size() >= 50;
          const Added added = queue.add(rule, key, "");
          ASSERT_EQ(added, waited ? Added::kCoalesced : is_full ? Added::kDropped : Added::kQueued);
          if (added == Added::kQueued) waits.insert({rule, key});
        }
      }
      ASSERT_EQ(queue.size(), waits.size()) << "seed " << seed << ", step " << step;
      ASSERT_EQ(queue.due(now) == SteadyTime::max(), waits.empty());
    }
  }
}

}  // namespace
}  // namespace evictd
