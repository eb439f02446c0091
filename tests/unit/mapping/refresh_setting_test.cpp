// `refresh:` in a rule: what it says, and each way to say it wrongly.
#include "tests/unit/mapping/support.h"

namespace evictd {
namespace {

using test::error_of;
using test::rules_from;

TEST(RefreshSetting, TheQueryWithItsDefaults) {
  const RuleSet rules = rules_from("- {table: a, keys: ['a:{id}'], fill: checked, refresh: {query: 'select id, v from a where id = any($1);', ttl: 10m}}");
  const RefreshInfo& refresh = rules.rules()[0].refresh;
  EXPECT_TRUE(refresh.is_set());
  EXPECT_EQ(refresh.query, "select id, v from a where id = any($1)");
  EXPECT_EQ(refresh.ttl, std::chrono::minutes(10));
  EXPECT_EQ(refresh.jitter, 10u);
  EXPECT_EQ(refresh.per_second, 500u);
  EXPECT_EQ(refresh.stream, "");
  EXPECT_FALSE(rules_from("- {table: a, keys: ['a:{id}']}").rules()[0].refresh.is_set());
}

TEST(RefreshSetting, TheStreamOfAnyRuleWithKeys) {
  const RuleSet rules = rules_from("- {table: a, keys: ['a:{id|lower}', 'b:{v.x}'], fill: checked, version: {column: v}, refresh: {stream: 'evictd:refresh', maxlen: 7}}");
  EXPECT_EQ(rules.rules()[0].refresh.stream, "evictd:refresh");
  EXPECT_EQ(rules.rules()[0].refresh.maxlen, 7u);
  EXPECT_EQ(rules_from("- {table: a, keys: ['a:{id}'], fill: checked, refresh: {stream: mine}}").rules()[0].refresh.maxlen, 100'000u);
}

// What stands in `refresh:` of an otherwise good rule.
std::string error_in(const std::string& text) { return error_of("- {table: a, keys: ['a:{id}'], fill: checked, refresh: " + text + "}"); }

TEST(RefreshSetting, IsReadStrictly) {
  const std::string query = "query: 'select id, v from a where id = any($1)'";
  EXPECT_EQ(error_in("{}"),
            "rules.yaml:1:56: missing setting 'query' or 'stream' in 'refresh'\nhint: with 'query' evictd fills the key: refresh: {query: "
            "\"select id, name from products where id = any($1)\", ttl: 10m}; with 'stream' the application's workers do: refresh: {stream: "
            "'evictd:refresh'}");
  EXPECT_EQ(error_in("{" + query + "}"), "rules.yaml:1:56: missing setting 'ttl' in 'refresh'");
  EXPECT_EQ(error_in("{" + query + ", ttl: 10}"), "rules.yaml:1:111: 'ttl': expected a duration, got '10'\nhint: write a whole number and a unit: 250ms, 1s, 5m or 1h");
  EXPECT_EQ(error_in("{" + query + ", ttl: 1s, jitter: 101}"), "rules.yaml:1:123: 'jitter': expected a whole number from 0 to 100, got '101'");
  EXPECT_EQ(error_in("{" + query + ", ttl: 1s, per_second: 0}"), "rules.yaml:1:127: 'per_second': expected a whole number from 1 to 100000, got '0'");
  EXPECT_EQ(error_in("{" + query + ", ttl: 1s, maxlen: 5}"), "rules.yaml:1:115: 'maxlen' has no effect without 'stream'");
  EXPECT_EQ(error_in("{" + query + ", stream: s}"),
            "rules.yaml:1:114: 'query' and 'stream' exclude one another\nhint: with 'query' evictd fills the key, with 'stream' the application's "
            "workers do");
  EXPECT_EQ(error_in("{stream: s, ttl: 1s}"), "rules.yaml:1:68: 'ttl' has no effect with 'stream'");
  EXPECT_EQ(error_in("{stream: 'evictd:record'}"),
            "rules.yaml:1:65: 'stream': expected the name of a stream, 1 to 256 bytes, got 'evictd:record'\nhint: of names that begin with 'evictd:', "
            "those that begin with 'evictd:refresh' can be one");
  EXPECT_EQ(error_in("{query: 'select 1', ttl: 1s}"),
            "rules.yaml:1:64: 'query': expected 1 parameter, got 0: an array of texts for each column of the key 'a:{id}' (id)\nhint: write where id = "
            "any($1), or for two columns: where (a, b) in (select * from unnest($1::int[], $2::text[]))");
}

TEST(RefreshSetting, NeedsARuleWhoseKeysItCanFillAndProve) {
  const std::string refresh = "refresh: {query: 'select id, v from a where id = any($1)', ttl: 1s}";
  EXPECT_EQ(error_of("- {table: a, keys: ['a:{id}'], " + refresh + "}"),
            "rules.yaml:1:32: 'refresh' needs 'fill: checked', got 'fill: plain'\nhint: evictd fills as a checked reader does, and only evictd_fill checks");
  EXPECT_EQ(error_of("- {table: a, keys: ['a:{id}', 'b:{id}'], fill: checked, " + refresh + "}"),
            "rules.yaml:1:74: 'refresh': expected a rule with one key, got 2\nhint: the query answers with one value: give each key a rule of its own");
  const std::string hint =
      "\nhint: no filters, no paths, and a text between two columns; or let the application fill it: refresh: {stream: 'evictd:refresh'}";
  EXPECT_EQ(error_of("- {table: a, keys: ['a:{id|lower}'], fill: checked, " + refresh + "}"),
            "rules.yaml:1:70: 'refresh': expected a key from which its columns can be read, got 'a:{id|lower}'" + hint);
  EXPECT_EQ(error_of("- {table: a, keys: ['a:{id.x}'], fill: checked, " + refresh + "}"),
            "rules.yaml:1:66: 'refresh': expected a key from which its columns can be read, got 'a:{id.x}'" + hint);
  EXPECT_EQ(error_of("- {table: a, tags: ['a:{id}'], fill: checked, refresh: {stream: s}}"), "rules.yaml:1:47: 'refresh' has no effect without 'keys'");
  EXPECT_EQ(error_of("- {table: a, keys: ['a:{id}'], fill: checked, version: {column: v}, " + refresh + "}"),
            "rules.yaml:1:69: 'refresh: {query: ...}' and 'version: {column: ...}' exclude one another\nhint: evictd proves its fills by a snapshot of "
            "PostgreSQL; write 'version: snapshot', or refresh: {stream: ...}");
}

TEST(RefreshSetting, ChangesNothingOfWhatTheRuleTouches) {
  // Nothing is purged because somebody wants to be refreshed from now on.
  const std::string rule = "- {table: a, keys: ['a:{id}'], fill: checked";
  EXPECT_EQ(rules_from(rule + "}").rules()[0].digest, rules_from(rule + ", refresh: {stream: s}}").rules()[0].digest);
}

}  // namespace
}  // namespace evictd
