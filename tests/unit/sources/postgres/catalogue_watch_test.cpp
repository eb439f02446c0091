// When the catalogue is looked at while streaming, and what follows.
#include "daemon/sources/postgres/catalogue_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/sources/postgres/facts.h"

namespace evictd::testing {
namespace {

using Follows = CatalogueWatch::Follows;

constexpr SteadyTime at(int milliseconds) { return SteadyTime(std::chrono::milliseconds(milliseconds)); }
constexpr Lsn kFar{2'000'000};  // beyond the end of the WAL of healthy facts

class CatalogueWatchTest : public ::testing::Test {
 protected:
  CatalogueWatchTest() {
    Facts begun = healthy_facts();
    watch.judges(begun.tables);
    watch.streaming(begun, at(0));
  }
  // A look at `facts`.
  CatalogueWatch::Seen look(Facts facts, Lsn received = kFar) {
    watch.answered(now);
    facts.slot.is_active = is_streaming_from_it;
    return watch.saw(facts, PlanInput{&options, &tables, &facts, false}, received, now);
  }
  // One that takes so long.
  void look_for(int milliseconds) {
    now = watch.due();
    ASSERT_TRUE(watch.looks(now));
    now += std::chrono::milliseconds(milliseconds);
    watch.answered(now);
  }

  PostgresOptions options;
  std::vector<std::string> tables = {"public.products", "public.orders"};
  CatalogueWatch watch{std::chrono::milliseconds(5000)};
  bool is_streaming_from_it = true;  // the server that was looked at
  SteadyTime now = at(0);
};

TEST_F(CatalogueWatchTest, LooksAtItsInterval) {
  EXPECT_EQ(watch.due(), at(5000));
  EXPECT_FALSE(watch.looks(at(4999)));
  EXPECT_TRUE(watch.looks(at(5000)));
  EXPECT_EQ(watch.due(), at(10'000));
}

TEST_F(CatalogueWatchTest, OneLookAtATime) {
  EXPECT_TRUE(watch.looks(at(5000)));
  EXPECT_FALSE(watch.looks(at(10'000))) << "no answer yet";
  EXPECT_EQ(watch.due(), at(15'000));
  watch.connecting();
  EXPECT_TRUE(watch.looks(at(15'000))) << "the answer of another attempt never comes";
}

TEST_F(CatalogueWatchTest, AServerWhereNobodyUsesTheSlotIsNotTheOneThatStreams) {
  EXPECT_EQ(look(healthy_facts()).follows, Follows::kGoesOn);
  is_streaming_from_it = false;
  const auto seen = look(healthy_facts());
  EXPECT_EQ(seen.follows, Follows::kReconnect);
  EXPECT_THAT(seen.why, ::testing::HasSubstr("nobody uses slot 'evictd'"));
}

TEST_F(CatalogueWatchTest, OtherTablesAreLookedAtAtOnce) {
  watch.look_at_once();
  EXPECT_TRUE(watch.looks(at(1)));
}

TEST_F(CatalogueWatchTest, ALongLookHasALongRest) {
  look_for(500);  // from 5 s on
  EXPECT_EQ(watch.due(), at(10'000));
  look_for(0);
  EXPECT_EQ(watch.due(), at(20'000)) << "20 times the half second of the look before";
  look_for(60'000);
  EXPECT_EQ(watch.due(), at(20'000 + 30'000)) << "4 times as long after it, but no more than 30 s";
}

TEST_F(CatalogueWatchTest, WhatIsDescribedIsLookedAtSooner) {
  look_for(100);  // from 5 s on
  watch.described();
  EXPECT_EQ(watch.due(), at(6000)) << "a second after the last one began";
  look_for(500);
  watch.described();
  EXPECT_EQ(watch.due(), at(8000));
}

TEST_F(CatalogueWatchTest, NothingFollowsFromWhatIsAsItWas) {
  const auto seen = look(healthy_facts());
  EXPECT_EQ(seen.follows, Follows::kGoesOn);
  EXPECT_FALSE(seen.has_grown);
  EXPECT_EQ(watch.problem(), "");
}

TEST_F(CatalogueWatchTest, AColumnMoreMissesNothing) {
  const auto before = watch.followed();
  Facts facts = healthy_facts();
  facts.tables["public.orders"].table.columns.push_back(column("note"));
  const auto seen = look(facts);
  EXPECT_EQ(seen.follows, Follows::kGoesOn);
  EXPECT_TRUE(seen.has_grown);
  EXPECT_NE(watch.followed(), before);
  EXPECT_FALSE(look(facts).has_grown) << "told once";
}

TEST_F(CatalogueWatchTest, ATableThatLeftThePublicationIsJudgedByANewConnection) {
  Facts facts = healthy_facts();
  unpublish(facts.tables["public.orders"]);
  const auto before = watch.followed();
  EXPECT_EQ(look(facts).follows, Follows::kReconnect);
  EXPECT_EQ(watch.followed(), before) << "what is new to us is told by what we followed";
}

TEST_F(CatalogueWatchTest, ATableMadeAnewIsJudgedByANewConnection) {
  Facts facts = healthy_facts();
  facts.tables["public.orders"].table.oid = 201;
  EXPECT_EQ(look(facts).follows, Follows::kReconnect);
}

TEST_F(CatalogueWatchTest, ATableThatIsFollowedFromNowOnIsJudgedByANewConnection) {
  tables.push_back("public.added");
  Facts facts = healthy_facts();
  facts.tables["public.added"] = table("added", 300);
  EXPECT_EQ(look(facts).follows, Follows::kReconnect) << "published by somebody else";
  unpublish(facts.tables["public.added"]);
  EXPECT_EQ(look(facts).follows, Follows::kReconnect) << "to be published by us";
}

TEST_F(CatalogueWatchTest, WhoOnlyLooksOnFollowsNothing) {
  options.temporary_slot = true;
  Facts facts = healthy_facts();
  unpublish(facts.tables["public.orders"]);
  EXPECT_EQ(look(facts).follows, Follows::kNothing);
}

TEST_F(CatalogueWatchTest, WhatCannotBeServedIsAProblemUntilItCan) {
  Facts facts = healthy_facts();
  facts.server.wal_level = "replica";
  EXPECT_EQ(look(facts).follows, Follows::kNothing);
  EXPECT_NE(watch.problem(), "");
  look(healthy_facts());
  EXPECT_EQ(watch.problem(), "");
  watch.unreadable("gone");
  EXPECT_EQ(watch.problem(), "cannot read the catalogue: gone");
  watch.streaming(healthy_facts(), at(0));
  EXPECT_EQ(watch.problem(), "") << "it was read on the way here";
}

class FilesTest : public CatalogueWatchTest {
 protected:
  static Facts facts_with_file(Oid file, std::uint32_t written_by) {
    Facts facts = healthy_facts();
    facts.tables["public.orders"].table.file = file;
    facts.tables["public.orders"].table.written_by = written_by;
    return facts;
  }
  FilesTest() {
    Facts begun = facts_with_file(900, 1);
    watch.judges(begun.tables);
    watch.streaming(begun, at(0));
  }
};

TEST_F(FilesTest, AFileThatIsOtherIsJudgedWhenTheStreamHasComeSoFar) {
  now = at(5000);
  ASSERT_TRUE(watch.looks(now));
  EXPECT_EQ(look(facts_with_file(901, 77), Lsn{999'999}).follows, Follows::kNothing) << "its TRUNCATE may still come";
  EXPECT_EQ(watch.due(), at(5200));
  // Where the log ended at the first look, not at the later ones.
  Facts later = facts_with_file(901, 77);
  later.server.wal_end = Lsn{3'000'000};
  EXPECT_EQ(look(later, Lsn{1'000'000}).follows, Follows::kReconnect) << "no TRUNCATE came";
}

TEST_F(FilesTest, ATruncateOfTheStreamExplainsIt) {
  EXPECT_EQ(look(facts_with_file(901, 77), Lsn{1}).follows, Follows::kNothing);
  watch.truncated(200, 77);
  const auto seen = look(facts_with_file(901, 77), Lsn{1});
  EXPECT_EQ(seen.follows, Follows::kGoesOn);
  EXPECT_FALSE(seen.has_grown);
}

TEST_F(FilesTest, ANewConnectionJudgesItAsItStands) {
  look(facts_with_file(901, 77), Lsn{1});
  Facts anew = facts_with_file(901, 77);
  watch.judges(anew.tables);
  EXPECT_EQ(anew.tables["public.orders"].table.file, 901u);
  watch.streaming(anew, at(0));
  EXPECT_EQ(look(facts_with_file(901, 77), Lsn{1}).follows, Follows::kGoesOn);
}

}  // namespace
}  // namespace evictd::testing
