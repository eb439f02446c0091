#include "daemon/audit/judge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace evictd {
namespace {

using ::testing::HasSubstr;

constexpr std::uint64_t kRound = 1ULL << 32;

Snapshot snapshot(const std::string& text) { return Snapshot::parse(text).value(); }

RuleInfo checked_rule() {
  RuleInfo rule;
  rule.fill = FillMode::kChecked;
  rule.key_templates = {"k:{id}"};
  rule.operations = 0x0f;
  return rule;
}

AuditFacts facts_of(const std::string& now, std::vector<AuditedRow> rows) {
  AuditFacts facts;
  facts.snapshot = snapshot(now);
  facts.rows = std::move(rows);
  facts.rows_were_read = true;
  return facts;
}

// Of a value that was filled under `seen`, whose row has this xmin, looked at under `now`.
AuditVerdict by_marker(const std::string& seen, std::uint32_t xmin, const std::string& now) {
  return judge_marker(checked_rule(), "f " + seen + " 1700000000000", 0, facts_of(now, {{xmin, ""}})).verdict;
}

TEST(AuditMarker, AValueIsFreshWhenItsSnapshotHasSeenTheRowsWriter) {
  EXPECT_EQ(by_marker("100:100:", 99, "120:120:"), AuditVerdict::kFresh);
  EXPECT_EQ(by_marker("100:105:101,103", 99, "120:120:"), AuditVerdict::kFresh);
  EXPECT_EQ(by_marker("101:105:101,103", 100, "120:120:"), AuditVerdict::kFresh);
}

TEST(AuditMarker, AValueIsSuspectWhenItsSnapshotHasNotSeenTheRowsWriter) {
  EXPECT_EQ(by_marker("100:100:", 100, "120:120:"), AuditVerdict::kSuspect);
  EXPECT_EQ(by_marker("101:105:101,103", 103, "120:120:"), AuditVerdict::kSuspect);
  EXPECT_EQ(by_marker("101:105:101,103", 105, "120:120:"), AuditVerdict::kSuspect);
}

TEST(AuditMarker, ASubtransactionOfOneThatWasRunningIsNeverTakenForSeen) {
  // 102 may be a savepoint of 101, whose commit the value has not seen: its snapshot names 101 alone.
  EXPECT_EQ(by_marker("101:105:101,103", 102, "120:120:"), AuditVerdict::kUnknown);
  EXPECT_EQ(by_marker("101:105:101,103", 104, "120:120:"), AuditVerdict::kUnknown);
  // Nothing with a lower id was running.
  EXPECT_EQ(by_marker("100:105:", 104, "120:120:"), AuditVerdict::kFresh);
  EXPECT_EQ(by_marker("100:105:103", 102, "120:120:"), AuditVerdict::kFresh);
}

TEST(AuditMarker, ABareXminProvesOnlyWhatIsBelowIt) {
  EXPECT_EQ(by_marker("100", 99, "120:120:"), AuditVerdict::kFresh);
  EXPECT_EQ(by_marker("100", 100, "120:120:"), AuditVerdict::kUnknown);
}

TEST(AuditMarker, FrozenRowsAreFresh) {
  EXPECT_EQ(by_marker("100:100:", 2, "120:120:"), AuditVerdict::kFresh);
  EXPECT_EQ(by_marker("100:100:", 1, "120:120:"), AuditVerdict::kFresh);
}

TEST(AuditMarker, AnXminFromTheFutureIsUnknown) { EXPECT_EQ(by_marker("100:100:", 121, "120:120:"), AuditVerdict::kUnknown); }

TEST(AuditMarker, OnceIdsHaveWrappedAnXminProvesNoStaleness) {
  const std::string now = std::to_string(kRound + 120) + ":" + std::to_string(kRound + 120) + ":";
  const std::string seen = std::to_string(kRound + 100) + ":" + std::to_string(kRound + 100) + ":";
  EXPECT_EQ(by_marker(seen, 99, now), AuditVerdict::kFresh);
  EXPECT_EQ(by_marker(seen, 110, now), AuditVerdict::kUnknown);  // perhaps frozen since 2^32 transactions
  EXPECT_EQ(by_marker(seen, 4'000'000'000u, now), AuditVerdict::kFresh);  // of the round before
}

TEST(AuditMarker, XminIsWidenedToTheLatestTransactionThatCanHaveBeen) {
  const Snapshot now = snapshot(std::to_string(kRound + 120) + ":" + std::to_string(kRound + 120) + ":");
  EXPECT_EQ(xmin_of_row(119, now), Xid{kRound + 119});
  EXPECT_EQ(xmin_of_row(120, now), Xid{120});
  EXPECT_EQ(xmin_of_row(119, snapshot("120:120:")), Xid{119});
  EXPECT_EQ(xmin_of_row(120, snapshot("120:120:")), std::nullopt);
}

TEST(AuditMarker, WhatHasNoReadableFillIsUnknown) {
  const AuditFacts facts = facts_of("120:120:", {{110, ""}});
  for (const char* marker : {"", "t e/1 100", "l - -", "f", "f 100:100:", "f x 1", "f 100:100: x", "f - 1700000000000", "f v7 1700000000000"}) {
    EXPECT_EQ(judge_marker(checked_rule(), marker, 0, facts).verdict, AuditVerdict::kUnknown) << marker;
  }
  EXPECT_EQ(judge_marker(checked_rule(), "f 100:100: 1700000000000 d20", 0, facts).verdict, AuditVerdict::kSuspect);
  // Filled under another history, by a later database, without a row, without a look.
  EXPECT_EQ(judge_marker(checked_rule(), "f 100:100: 1700000000000", 1700000000001, facts).verdict, AuditVerdict::kUnknown);
  EXPECT_EQ(judge_marker(checked_rule(), "f 100:130: 1700000000000", 0, facts).verdict, AuditVerdict::kUnknown);
  EXPECT_EQ(judge_marker(checked_rule(), "f 100:100: 1700000000000", 0, facts_of("120:120:", {})).verdict, AuditVerdict::kUnknown);
  AuditFacts blind = facts;
  blind.rows_were_read = false;
  EXPECT_EQ(judge_marker(checked_rule(), "f 100:100: 1700000000000", 0, blind).verdict, AuditVerdict::kUnknown);
}

TEST(AuditMarker, OneRowThatIsNewerMakesAValueOfManyRowsSuspect) {
  const std::string marker = "f 100:100: 1700000000000";
  EXPECT_EQ(judge_marker(checked_rule(), marker, 0, facts_of("120:120:", {{90, ""}, {110, ""}, {91, ""}})).verdict, AuditVerdict::kSuspect);
  EXPECT_EQ(judge_marker(checked_rule(), marker, 0, facts_of("120:120:", {{90, ""}, {91, ""}})).verdict, AuditVerdict::kFresh);
}

TEST(AuditMarker, RowVersionsAreComparedAsThoseOfFills) {
  RuleInfo rule = checked_rule();
  rule.version_column = "v";
  const auto verdict = [&](const std::string& seen, const std::string& row) {
    return judge_marker(rule, "f v" + seen + " 1700000000000", 0, facts_of("120:120:", {{110, row}})).verdict;
  };
  EXPECT_EQ(verdict("7", "7"), AuditVerdict::kFresh);
  EXPECT_EQ(verdict("10", "9"), AuditVerdict::kFresh);
  EXPECT_EQ(verdict("7", "8"), AuditVerdict::kSuspect);
  EXPECT_EQ(verdict("7", ""), AuditVerdict::kUnknown);
  EXPECT_EQ(verdict("7", "2024-02-03T04:05:06"), AuditVerdict::kUnknown);
}

class AuditContent : public ::testing::Test {
 protected:
  Judgement judged(const std::string& value, std::vector<std::optional<std::string>> values,
                   std::vector<std::string> columns = {"value"}) {
    AuditAnswer answer;
    answer.columns = std::move(columns);
    answer.values = std::move(values);
    answer.are_numbers = are_numbers_;
    answer.are_numbers.resize(answer.values.size());
    return judge_content(rule_, value, answer, json_);
  }
  RuleInfo rule_ = checked_rule();
  std::vector<bool> are_numbers_;
  JsonReader json_;
};

TEST_F(AuditContent, AsText) {
  EXPECT_EQ(judged("a", {"a"}).verdict, AuditVerdict::kFresh);
  EXPECT_EQ(judged("a", {"a "}).verdict, AuditVerdict::kSuspect);
  EXPECT_EQ(judged("", {std::nullopt}).verdict, AuditVerdict::kSuspect);
  EXPECT_EQ(judged("", {""}).verdict, AuditVerdict::kFresh);
  EXPECT_EQ(judged("a", {"a", "b"}, {"x", "y"}).verdict, AuditVerdict::kUnknown);
}

TEST_F(AuditContent, AsJson) {
  rule_.audit.compare = AuditCompare::kJson;
  EXPECT_EQ(judged(R"({"a": 1, "b": 2})", {R"({"b":2,"a":1.0})"}).verdict, AuditVerdict::kFresh);
  EXPECT_EQ(judged(R"({"a": 1})", {R"({"a":2})"}).verdict, AuditVerdict::kSuspect);
  EXPECT_EQ(judged("\x04\x08o:", {R"({"a":2})"}).verdict, AuditVerdict::kUnknown);
  EXPECT_EQ(judged("{}", {"no json"}).verdict, AuditVerdict::kUnknown);
}

TEST_F(AuditContent, ByPaths) {
  rule_.audit.compare = AuditCompare::kPaths;
  rule_.audit.paths = {{{"price"}, "cents"}, {{"meta", "live"}, "live"}};
  const std::vector<std::string> columns = {"cents", "live", "other"};
  EXPECT_EQ(judged(R"({"price": 1.50, "meta": {"live": true}, "x": 1})", {"1.5", "t", "?"}, columns).verdict, AuditVerdict::kFresh);
  EXPECT_EQ(judged(R"({"price": null, "meta": {}})", {std::nullopt, std::nullopt, "?"}, columns).verdict, AuditVerdict::kFresh);
  const Judgement other = judged(R"({"price": 151, "meta": {"live": true}})", {"150", "t", "?"}, columns);
  EXPECT_EQ(other.verdict, AuditVerdict::kSuspect);
  EXPECT_THAT(other.reason, HasSubstr("'price'"));
  EXPECT_EQ(judged(R"({"price": 150, "meta": {"live": false}})", {"150", "t", "?"}, columns).verdict, AuditVerdict::kSuspect);
  EXPECT_EQ(judged(R"({"meta": {"live": true}})", {"150", "t", "?"}, columns).verdict, AuditVerdict::kSuspect);
  EXPECT_EQ(judged("a:1:{}", {"150", "t", "?"}, columns).verdict, AuditVerdict::kUnknown);
  EXPECT_EQ(judged(R"({"price": 150, "meta": {"live": true}})", {"150", "t"}, {"cents", "lively"}).verdict, AuditVerdict::kUnknown);
}

TEST_F(AuditContent, ATextIsNotTakenForTheNumberItLooksLike) {
  rule_.audit.compare = AuditCompare::kPaths;
  rule_.audit.paths = {{{"version"}, "version"}};
  EXPECT_EQ(judged(R"({"version": "1.1"})", {"1.10"}, {"version"}).verdict, AuditVerdict::kSuspect);
  EXPECT_EQ(judged(R"({"version": "01234"})", {"1234"}, {"version"}).verdict, AuditVerdict::kSuspect);
  EXPECT_EQ(judged(R"({"version": 1.1})", {"1.10"}, {"version"}).verdict, AuditVerdict::kFresh);  // a number, however the query wrote it
  are_numbers_ = {true};
  EXPECT_EQ(judged(R"({"version": "1.1"})", {"1.10"}, {"version"}).verdict, AuditVerdict::kFresh);
  EXPECT_EQ(judged(R"({"version": "1.2"})", {"1.10"}, {"version"}).verdict, AuditVerdict::kSuspect);
}

Look look_of(AuditVerdict verdict, Presence before, std::optional<Presence> after = {}) {
  Look look;
  look.before = before;
  look.after = after.value_or(before);
  look.facts = facts_of("120:120:", {{110, ""}});
  look.judgement = {verdict, "because"};
  return look;
}

Presence checked_value(const std::string& value = "a") {
  Presence presence;
  presence.is_there = true;
  presence.value = value;
  presence.marker = "f 100:100: 1700000000000";
  return presence;
}

Presence plain_value(std::int64_t expires = 0) {
  Presence presence;
  presence.is_there = true;
  presence.value = "a";
  presence.expires_at_ms = expires;
  return presence;
}

std::string step(const Decision& decision) {
  if (decision.step == NextStep::kNotCached) return "not cached";
  if (decision.step == NextStep::kWait) return "wait";
  return std::string(audit_outcome_name(decision.outcome));
}

TEST(AuditDecision, OfAFirstLook) {
  EXPECT_EQ(step(judge_first(look_of(AuditVerdict::kFresh, Presence{}))), "not cached");
  EXPECT_EQ(step(judge_first(look_of(AuditVerdict::kFresh, checked_value()))), "fresh");
  EXPECT_EQ(step(judge_first(look_of(AuditVerdict::kUnknown, checked_value()))), "unreadable");
  EXPECT_EQ(step(judge_first(look_of(AuditVerdict::kSuspect, checked_value()))), "wait");
  EXPECT_EQ(step(judge_first(look_of(AuditVerdict::kSuspect, checked_value(), checked_value("b")))), "in_flight");
  EXPECT_EQ(step(judge_first(look_of(AuditVerdict::kSuspect, checked_value(), Presence{}))), "in_flight");
}

TEST(AuditDecision, ASuspectIsStaleWhenTheSameFillIsStillThere) {
  const Look first = look_of(AuditVerdict::kSuspect, checked_value());
  EXPECT_EQ(step(judge_again(first, look_of(AuditVerdict::kSuspect, checked_value()))), "stale");
  EXPECT_EQ(step(judge_again(first, look_of(AuditVerdict::kFresh, checked_value()))), "fresh");
  EXPECT_EQ(step(judge_again(first, look_of(AuditVerdict::kUnknown, checked_value()))), "unreadable");
  EXPECT_EQ(step(judge_again(first, look_of(AuditVerdict::kSuspect, Presence{}))), "in_flight");
  EXPECT_EQ(step(judge_again(first, look_of(AuditVerdict::kSuspect, checked_value(), Presence{}))), "in_flight");
  Presence refilled = checked_value();
  refilled.marker = "f 100:100: 1700000000001";
  EXPECT_EQ(step(judge_again(first, look_of(AuditVerdict::kSuspect, refilled))), "in_flight");
}

TEST(AuditDecision, AnotherStoreOfTheSameTextIsToldByItsEnd) {
  const Look first = look_of(AuditVerdict::kSuspect, plain_value(1'700'000'000'000));
  EXPECT_EQ(step(judge_again(first, look_of(AuditVerdict::kSuspect, plain_value(1'700'000'000'001)))), "stale");
  const auto shared = [](std::int64_t expires) {
    Look look = look_of(AuditVerdict::kSuspect, plain_value(expires));
    look.facts.is_of_these_rows_alone = false;
    return look;
  };
  EXPECT_EQ(step(judge_again(first, shared(1'700'000'000'500))), "in_flight");
  EXPECT_EQ(step(judge_again(first, shared(0))), "in_flight");
  Look rowless = look_of(AuditVerdict::kSuspect, plain_value(1'700'000'000'500));
  rowless.facts.rows.clear();
  EXPECT_EQ(step(judge_again(rowless, rowless)), "stale");
  EXPECT_EQ(step(judge_again(first, rowless)), "wait");
}

TEST(AuditDecision, AStaleValueWhoseLifeIsProlongedWithEachReadIsStale) {
  Presence filled = checked_value();
  filled.expires_at_ms = 1'700'000'000'000;
  Presence prolonged = filled;
  prolonged.expires_at_ms += 60'000;
  const Look first = look_of(AuditVerdict::kSuspect, filled, prolonged);
  EXPECT_EQ(step(judge_first(first)), "wait");
  EXPECT_EQ(step(judge_again(first, look_of(AuditVerdict::kSuspect, prolonged))), "stale");  // its marker tells the fill
  const Look plain = look_of(AuditVerdict::kSuspect, plain_value(1'700'000'000'000));
  EXPECT_EQ(step(judge_first(look_of(AuditVerdict::kSuspect, plain_value(1), plain_value(60'000)))), "wait");
  EXPECT_EQ(step(judge_again(plain, look_of(AuditVerdict::kSuspect, plain_value(1'700'000'060'000)))), "stale");  // its row was not written since
  Look moved = look_of(AuditVerdict::kSuspect, plain_value(1'700'000'060'000));
  moved.facts.rows[0].xmin = 111;
  EXPECT_EQ(step(judge_again(plain, moved)), "wait");
}

TEST(AuditDecision, WithoutAnEndAValueIsStaleOnlyWhereNothingElseHasMoved) {
  const Look first = look_of(AuditVerdict::kSuspect, plain_value());
  EXPECT_EQ(step(judge_again(first, look_of(AuditVerdict::kSuspect, plain_value()))), "stale");
  Look moved = look_of(AuditVerdict::kSuspect, plain_value());
  moved.facts.rows[0].xmin = 111;
  EXPECT_EQ(step(judge_again(first, moved)), "wait");
  Look asked = first;
  asked.facts.answer = AuditAnswer{{"v"}, {false}, {"b"}};
  Look answered = asked;
  EXPECT_EQ(step(judge_again(asked, answered)), "stale");
  answered.facts.answer->values[0] = "c";
  EXPECT_EQ(step(judge_again(asked, answered)), "wait");
}

TEST(AuditDecision, WhereThereIsAQueryItJudges) {
  JsonReader json;
  RuleInfo rule = checked_rule();
  AuditFacts facts = facts_of("120:120:", {{110, ""}});
  EXPECT_EQ(judge(rule, checked_value(), 0, facts, json).verdict, AuditVerdict::kSuspect);
  facts.has_query = true;
  facts.problem = "no answer";
  EXPECT_EQ(judge(rule, checked_value(), 0, facts, json), (Judgement{AuditVerdict::kUnknown, "no answer"}));
  facts.answer = AuditAnswer{{"v"}, {false}, {"a"}};
  EXPECT_EQ(judge(rule, checked_value(), 0, facts, json).verdict, AuditVerdict::kFresh);
}

TEST(AuditRules, ARefreshsQueryComparesAsJsonWhereBothAreAndMayAnswerWithTags) {
  JsonReader json;
  RuleInfo rule = checked_rule();
  rule.audit.query = "select 1";
  rule.audit.is_of_refresh = true;
  rule.audit.compare = AuditCompare::kJsonOrText;
  AuditFacts facts = facts_of("120:120:", {{99, ""}});
  facts.has_query = true;
  const auto verdict = [&](const std::string& cached, std::optional<std::string> wanted) {
    Presence presence = checked_value();
    presence.value = cached;
    facts.answer = AuditAnswer{{"v", "tags"}, {false, false}, {std::move(wanted), "{t:1}"}};
    return judge(rule, presence, 0, facts, json).verdict;
  };
  EXPECT_EQ(verdict(R"({"a": 1, "b": 2})", R"({"b":2,"a":1})"), AuditVerdict::kFresh);
  EXPECT_EQ(verdict(R"({"a": 1})", R"({"a":2})"), AuditVerdict::kSuspect);
  EXPECT_EQ(verdict("red", "red"), AuditVerdict::kFresh);
  EXPECT_EQ(verdict("red", "blue"), AuditVerdict::kSuspect);
  EXPECT_EQ(verdict("red", R"({"a":2})"), AuditVerdict::kSuspect);
  EXPECT_EQ(verdict("red", std::nullopt), AuditVerdict::kUnknown);
}

TEST(AuditRules, WhatALazyTagMayKeepFromReadersIsNotCalledStaleByAQuery) {
  JsonReader json;
  RuleInfo rule = checked_rule();
  AuditFacts facts = facts_of("120:120:", {{99, ""}});
  facts.has_query = true;
  const auto verdict = [&](const std::string& wanted, std::vector<std::string> columns) {
    facts.answer = AuditAnswer{std::move(columns), {false, false}, {wanted, "{t:1}"}};
    return judge(rule, checked_value(), 0, facts, json).verdict;
  };
  rule.audit.is_of_refresh = true;
  EXPECT_EQ(verdict("b", {"v", "tags"}), AuditVerdict::kSuspect);
  EXPECT_EQ(verdict("b", {"v", "lazy_tags"}), AuditVerdict::kUnknown);
  EXPECT_EQ(verdict("a", {"v", "lazy_tags"}), AuditVerdict::kFresh);
  rule.tags_mode = TagsMode::kLazy;
  EXPECT_EQ(verdict("b", {"v", "tags"}), AuditVerdict::kUnknown);
}

TEST(AuditRules, WhichRulesCannotBeAudited) {
  EXPECT_EQ(why_not_audited(checked_rule(), false), "");
  RuleInfo plain = checked_rule();
  plain.fill = FillMode::kPlain;
  EXPECT_THAT(why_not_audited(plain, false), HasSubstr("plain values"));
  plain.audit.query = "select 1";
  EXPECT_EQ(why_not_audited(plain, false), "");
  RuleInfo deletes = checked_rule();
  deletes.operations = 1U << static_cast<unsigned>(Operation::kDelete);
  EXPECT_THAT(why_not_audited(deletes, false), HasSubstr("'on'"));
  RuleInfo some = checked_rule();
  EXPECT_THAT(why_not_audited(some, true), HasSubstr("'when_changed'"));
  RuleInfo tags = checked_rule();
  tags.key_templates.clear();
  EXPECT_THAT(why_not_audited(tags, false), HasSubstr("'keys'"));
}

TEST(AuditRules, KeysOfJoinedTablesAreJudgedByAQueryAlone) {
  RuleInfo joined = checked_rule();
  joined.lookups.push_back({{}, {}, {0}, {}});
  EXPECT_THAT(why_not_audited(joined, false), HasSubstr("its keys are of joined tables"));
  joined.key_templates.push_back("own:{id}");
  EXPECT_EQ(why_not_audited(joined, false), "");
  joined.key_templates.pop_back();
  joined.audit.query = "select 1";
  EXPECT_EQ(why_not_audited(joined, false), "");
  RuleInfo implied = checked_rule();
  implied.implied_by = "items";
  EXPECT_EQ(why_not_audited(implied, true), "its keys are those of rule 'items'");
}

TEST(AuditRules, AMarkerIsNoProofOfAKeyThatIsMadeOfMoreThanTheRowsLookedAt) {
  JsonReader json;
  const RuleInfo rule = checked_rule();
  AuditFacts facts = facts_of("120:120:", {{99, ""}});
  ASSERT_EQ(judge(rule, checked_value(), 0, facts, json).verdict, AuditVerdict::kFresh);
  facts.unproven = "rule 'pages' makes this key as well";
  const Judgement judged = judge(rule, checked_value(), 0, facts, json);
  EXPECT_EQ(judged.verdict, AuditVerdict::kUnknown);
  EXPECT_THAT(judged.reason, HasSubstr("it is as new as its row, but rule 'pages' makes this key as well"));
  facts.rows = {{110, ""}};
  EXPECT_EQ(judge(rule, checked_value(), 0, facts, json).verdict, AuditVerdict::kSuspect);
  facts.has_query = true;
  facts.answer = AuditAnswer{{"v"}, {false}, {checked_value().value}};
  EXPECT_EQ(judge(rule, checked_value(), 0, facts, json).verdict, AuditVerdict::kFresh);
}

TEST(AuditNines, AreToldOnlyAsFarAsTheSampleCarries) {
  EXPECT_DOUBLE_EQ(stale_share_at_most(0), 1.0);
  EXPECT_DOUBLE_EQ(stale_share_at_most(2), 1.0);
  EXPECT_DOUBLE_EQ(stale_share_at_most(3000), 0.001);
  EXPECT_THAT(nines_text(0, 0), HasSubstr("nothing was judged"));
  EXPECT_THAT(nines_text(2, 0), HasSubstr("none of 2 judged values is stale: at most 100 % are"));
  EXPECT_THAT(nines_text(20, 0), HasSubstr("at most 15 % are"));
  EXPECT_THAT(nines_text(3000, 0), HasSubstr("at most 0.1 % are, with 95 % confidence (3.0 nines"));
  EXPECT_THAT(nines_text(1000, 0), HasSubstr("2.5 nines"));
  EXPECT_THAT(nines_text(999, 1), HasSubstr("1 of 1000 judged values are stale (0.1 %)"));
}

}  // namespace
}  // namespace evictd
