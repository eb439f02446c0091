// Which positions beyond the known end of the WAL are believed.
#include "daemon/sources/postgres/wal_claims.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace evictd {
namespace {

constexpr SteadyTime at(int milliseconds) { return SteadyTime(std::chrono::milliseconds(milliseconds)); }

class WalClaimsTest : public ::testing::Test {
 protected:
  WalClaimsTest() {
    claims.connecting();
    EXPECT_EQ(claims.slot_stands_at(Lsn{50}, Lsn{100}), WalClaims::Slot::kBelieved);
    claims.streaming();
  }
  std::optional<Lsn> keepalive(std::uint64_t end) { return claims.keepalive(Lsn{end}, false).believed; }
  // The answer to a question that is asked now.
  WalClaims::Proof ask(std::uint64_t wal_end) {
    EXPECT_TRUE(claims.ask_at());
    claims.asked(++number, at(0));
    return claims.snapshot(number, Lsn{wal_end});
  }

  WalClaims claims;
  std::uint64_t number = 0;
};

TEST_F(WalClaimsTest, WhatTheWalReachesIsBelievedAtOnce) {
  EXPECT_EQ(keepalive(100), Lsn{100});
  EXPECT_EQ(claims.ask_at(), std::nullopt);
}

TEST_F(WalClaimsTest, WhatLiesBeyondWaitsForItsProof) {
  EXPECT_EQ(keepalive(101), std::nullopt);
  EXPECT_EQ(claims.proven(), Lsn{100});
  ASSERT_TRUE(claims.ask_at());
  claims.asked(7, at(0));
  EXPECT_EQ(claims.ask_at(), std::nullopt) << "it is asked about";
  const auto proof = claims.snapshot(7, Lsn{105});
  EXPECT_EQ(proof.believed, Lsn{101}) << "what was claimed, not what is there by now";
  EXPECT_EQ(proof.lie, std::nullopt);
  EXPECT_EQ(claims.proven(), Lsn{105});
  EXPECT_EQ(claims.snapshot(8, Lsn{106}).believed, std::nullopt) << "once";
}

TEST_F(WalClaimsTest, AnAnswerAskedForOtherwiseProvesToo) {
  keepalive(101);
  EXPECT_EQ(claims.snapshot(1, Lsn{101}).believed, Lsn{101});
}

TEST_F(WalClaimsTest, QuestionsKeepTheirDistance) {
  keepalive(101);
  claims.asked(1, at(1000));
  claims.snapshot(1, Lsn{101});
  keepalive(102);
  EXPECT_EQ(claims.ask_at(), at(1000) + WalClaims::kAskInterval);
}

TEST_F(WalClaimsTest, ThreeAnswersMakeALie) {
  keepalive(500);
  EXPECT_EQ(ask(110).lie, std::nullopt) << "the server may have moved on";
  EXPECT_EQ(ask(120).lie, std::nullopt);
  const auto proof = ask(130);
  EXPECT_EQ(proof.believed, std::nullopt);
  ASSERT_TRUE(proof.lie);
  EXPECT_THAT(*proof.lie, ::testing::HasSubstr("up to 0/1F4, but the server's WAL ends at 0/82"));
}

TEST_F(WalClaimsTest, AnswersToEarlierQuestionsContradictNothing) {
  keepalive(500);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(claims.snapshot(3, Lsn{110}).lie, std::nullopt) << "nothing was asked";
  claims.asked(9, at(0));
  for (std::uint64_t i = 4; i < 9; ++i) EXPECT_EQ(claims.snapshot(i, Lsn{110}).lie, std::nullopt);
  EXPECT_EQ(claims.ask_at(), std::nullopt) << "the ninth is still to come";
}

TEST_F(WalClaimsTest, WhatIsBelievedInBetweenBeginsTheCountAnew) {
  keepalive(500);
  ask(110);
  ask(120);
  EXPECT_EQ(keepalive(120), Lsn{120});
  keepalive(500);
  EXPECT_EQ(ask(130).lie, std::nullopt);
}

TEST_F(WalClaimsTest, AnAnswerProvesWhatItWasAskedAboutHoweverFarTheServerHasCome) {
  std::uint64_t end = 200;
  keepalive(end);
  for (std::uint64_t asked = 1; asked <= 5; ++asked) {
    claims.asked(asked, at(0));
    keepalive(end + 100);
    const auto proof = claims.snapshot(asked, Lsn{end + 50});
    EXPECT_EQ(proof.lie, std::nullopt);
    EXPECT_EQ(proof.believed, Lsn{end});
    EXPECT_TRUE(claims.ask_at()) << "the later one is still to be proven";
    end += 100;
  }
}

TEST_F(WalClaimsTest, ATransactionSaysMoreThanTheKeepaliveBefore) {
  keepalive(101);
  claims.asked(1, at(0));
  claims.superseded();
  EXPECT_EQ(claims.snapshot(1, Lsn{200}).believed, std::nullopt) << "what comes now lies before it";
  claims.reaches(Lsn{300});
  EXPECT_EQ(keepalive(300), Lsn{300});
}

TEST_F(WalClaimsTest, AServerThatShutsDownSaysItTwice) {
  auto first = claims.keepalive(Lsn{101}, true);
  EXPECT_EQ(first.believed, std::nullopt);
  EXPECT_TRUE(first.needs_another);
  auto second = claims.keepalive(Lsn{101}, true);
  EXPECT_EQ(second.believed, Lsn{101});
  EXPECT_FALSE(second.needs_another);
  EXPECT_EQ(claims.proven(), Lsn{101});
}

TEST_F(WalClaimsTest, AServerThatShutsDownAndGoesOnIsBelievedUpToTheFirst) {
  claims.keepalive(Lsn{101}, true);
  auto second = claims.keepalive(Lsn{110}, true);
  EXPECT_EQ(second.believed, Lsn{101});
  EXPECT_TRUE(second.needs_another);
  EXPECT_EQ(claims.keepalive(Lsn{105}, true).believed, std::nullopt) << "less than what was claimed";
  EXPECT_EQ(claims.proven(), Lsn{101});
}

TEST_F(WalClaimsTest, ASlotAheadOfTheServerIsRefusedAfterThreeAnswers) {
  claims.connecting();
  EXPECT_EQ(claims.slot_stands_at(Lsn{500}, Lsn{90}), WalClaims::Slot::kAskAgain) << "nothing is left of the connection before";
  EXPECT_EQ(claims.proven(), Lsn{90});
  EXPECT_EQ(claims.slot_stands_at(Lsn{500}, Lsn{91}), WalClaims::Slot::kAskAgain);
  EXPECT_EQ(claims.slot_stands_at(Lsn{500}, Lsn{92}), WalClaims::Slot::kRefused);
  EXPECT_EQ(claims.slot_stands_at(Lsn{500}, Lsn{500}), WalClaims::Slot::kBelieved);
}

TEST_F(WalClaimsTest, ConnectingForgetsTheClaim) {
  keepalive(101);
  claims.connecting();
  EXPECT_EQ(claims.ask_at(), std::nullopt);
  EXPECT_EQ(claims.proven(), Lsn{});
}

}  // namespace
}  // namespace evictd
