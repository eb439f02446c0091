#include "daemon/app/check_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "daemon/app/check_nulls.h"

namespace evictd {
namespace {

std::string checked(const std::string& rules_text, const std::string& redis = "") {
  const Result<ValidConfig> config =
      parse_config("postgres: {url: postgresql://localhost/shop}\nredis: {url: redis://localhost" +
                       redis + "}\nrules: rules.yaml\n",
                   "evictd.yaml", [](const std::string&) { return std::nullopt; });
  EXPECT_TRUE(config) << config.error().to_string();
  const Result<RuleSet> rules = RuleSet::parse(rules_text, "rules.yaml");
  EXPECT_TRUE(rules) << rules.error().to_string();
  return check_text({{"files", check_files(**config, *rules)}});
}

TEST(CheckFiles, AllIsWell) {
  EXPECT_EQ(checked("- {table: users, keys: [\"user:{id}\"]}\n"
                    "- {table: orders, keys: [\"user:{user_id}\"]}\n"),
            "files: nothing to say\nall is well\n");
}

TEST(CheckFiles, APortThatOthersReach) {
  EXPECT_EQ(checked("- {table: users, keys: [\"user:{id}\"]}\n", "}\nhttp: {listen: \"0.0.0.0:9464\""),
            "files\n"
            "  CF008 note  http.listen\n"
            "    '0.0.0.0:9464': whoever reaches it reads the names of tables, rules and hosts; it has no login\n"
            "    fix: listen on 127.0.0.1, or put a network policy or a proxy with a login before it\n"
            "all is well\n");
}

TEST(CheckFiles, PlaceholdersThatTouch) {
  EXPECT_EQ(checked("- {table: users, keys: [\"user:{id}{tenant}\", \"u:{{{id}}}:{tenant}\"]}\n"),
            "files\n"
            "  CF002 warning  rule 'public.users' (rules.yaml:1:3)\n"
            "    two placeholders of 'user:{id}{tenant}' touch each other, so that different rows "
            "can make the same key\n"
            "    fix: put a separator between them, for example ':'\n"
            "0 errors, 1 warning\n");
}

TEST(CheckFiles, KeysWhoseValuesGiveThemTheMarkerOfAnother) {
  EXPECT_EQ(checked("- {table: users, keys: [\"user:{id}:page\"], fill: checked}\n"
                    "- {table: users, keys: [\"{{user:{name}}}\", \"{{user:{id}}}:x\"], name: u}\n"),
            "files\n"
            "  CF002 warning  rule 'u' (rules.yaml:2:3)\n"
            "    a value can make '{{user:{name}}}' a hash tag around a key of 'user:{id}:page' (rule 'public.users' (rules.yaml:1:3)): the two have "
            "one marker, and under 'fill: checked' one would be taken for the other\n"
            "    fix: give one of them another name, for example '{{user:{name}}}:v'\n"
            "0 errors, 1 warning\n");
}

// Tried: a key 'tag:a' of one rule took the set of another rule's tag away, and what it listed stayed.
TEST(CheckFiles, KeysThatAreNamedAsTheSetsOfTags) {
  const std::string tags = "- {table: items, keys: [\"item:{id}\"], tags: [\"{slug|lower}:t\"]}\n";
  EXPECT_EQ(checked(tags + "- {table: labels, keys: [\"tag:{name}:t\", \"{tenant}:label:{id}:t\", \"label:{id}\"]}\n"),
            "files\n"
            "  CF002 warning  rule 'public.labels' (rules.yaml:2:3)\n"
            "    'tag:{name}:t', or its pattern, can name the set of the tag '{slug|lower}:t' (rule 'public.items' (rules.yaml:1:3)), "
            "'tag:{slug|lower}:t': deleted as a key, the set is forgotten, and the values that were listed in it stay stale\n"
            "    '{tenant}:label:{id}:t', or its pattern, can name the set of the tag '{slug|lower}:t' (rule 'public.items' (rules.yaml:1:3)), "
            "'tag:{slug|lower}:t': deleted as a key, the set is forgotten, and the values that were listed in it stay stale\n"
            "    fix: begin the key with a name that no tag has\n"
            "0 errors, 2 warnings\n");
  EXPECT_EQ(checked("- {table: items, keys: [\"item:{id}\"], fill: checked, tags: [\"{slug}:t\"], tags_mode: lazy}\n- {table: labels, keys: [\"tag:{name}:t\"]}\n"),
            "files: nothing to say\nall is well\n");
}

TEST(CheckFiles, PlaceholdersOfOtherLanguages) {
  EXPECT_EQ(checked("- {table: users, keys: [\"user:%s\", \"u:{{id}}\", \"{{{id}}}:cart:100%\", \"users:all\"], tags: [\"t:$id\"]}\n"),
            "files\n"
            "  CF009 warning  rule 'public.users' (rules.yaml:1:3)\n"
            "    'user:%s' has no placeholder: every change deletes 'user:%s', and nothing else\n"
            "    'u:{{id}}' has no placeholder: every change deletes 'u:{id}', and nothing else\n"
            "    't:$id' has no placeholder: every change deletes 't:$id', and nothing else\n"
            "    fix: write {column}, in single braces, where the value of a column belongs\n"
            "0 errors, 3 warnings\n");
}

TEST(CheckFiles, TheSameTemplateTwice) {
  EXPECT_EQ(checked("- {table: users, keys: [\"user:{id}\"]}\n"
                    "- {table: public.users, keys: [\"user:{id}\"], on: [insert]}\n"),
            "files\n"
            "  CF002 warning  rule 'public.users#2' (rules.yaml:2:3)\n"
            "    'user:{id}' is also in rule 'public.users' (rules.yaml:1:3), for the same table: "
            "each change deletes it twice\n"
            "    fix: remove it from one of the rules, unless their conditions differ\n"
            "0 errors, 1 warning\n");
}

TEST(CheckFiles, PatternsThatMatchACounterOrWhatCheckedReadersFill) {
  EXPECT_EQ(checked("- {table: products, bump: [\"ns:catalog\"], keys: [\"page:{id}\"], fill: checked}\n"
                    "- {table: categories, name: c, purge: [\"ns:*\", \"page:[1-9]*\", \"other:*\", \"ns:\\\\*\"]}\n"),
            "files\n"
            "  CF002 warning  rule 'c' (rules.yaml:2:3)\n"
            "    'ns:*' matches 'ns:catalog' (rule 'public.products' (rules.yaml:1:3)): that counter would be deleted and begin at 1 again, where "
            "readers find what was cached long ago\n"
            "    fix: give counters names that no pattern of keys matches\n"
            "  CF002 warning  rule 'c' (rules.yaml:2:3)\n"
            "    'page:[1-9]*' matches 'page:{id}' (rule 'public.products' (rules.yaml:1:3)): those keys have checked readers, and a purge of a rule "
            "with 'fill: plain' does not refuse their late fills\n"
            "    fix: set fill: checked for this rule, too\n"
            "0 errors, 2 warnings\n");
  EXPECT_EQ(checked("- {table: products, bump: [\"ns:catalog\"], keys: [\"page:{id}\"], fill: checked}\n"
                    "- {table: categories, purge: [\"page:*\", \"nsx*\"], fill: checked}\n"),
            "files: nothing to say\nall is well\n");
}

TEST(CheckFiles, TimesThatProtectNobody) {
  EXPECT_EQ(
      checked("- {table: users, keys: [\"user:{id}\"], settle: 50ms}\n", ", tombstone_ttl: 2s"),
      "files\n"
      "  CF004 warning  evictd.yaml:2:33\n"
      "    tombstone_ttl is 2s: a reader that takes longer from its SELECT to its fill can "
      "store an old value\n"
      "    fix: set it above the time of the slowest reader, for example tombstone_ttl: "
      "60s\n"
      "  CF004 warning  rule 'public.users' (rules.yaml:1:3)\n"
      "    settle is 50ms: a reader that takes longer from its SELECT to its SET leaves an "
      "old value behind\n"
      "    fix: set it above the time of the slowest reader, for example settle: 1s\n"
      "0 errors, 2 warnings\n");
}

TEST(CheckFiles, MoreRulesThanLabels) {
  std::string rules;
  for (int i = 0; i < 201; ++i) {
    rules += "- {table: t" + std::to_string(i) + ", keys: [\"t" + std::to_string(i) + ":{id}\"]}\n";
  }
  EXPECT_EQ(checked(rules),
            "files\n"
            "  CF005 warning  metrics\n"
            "    201 rules: the metrics of those after the first 200 share the label "
            "rule=\"other\"\n"
            "    fix: put the rules that you want to see singly first, or join rules\n"
            "0 errors, 1 warning\n");
}

TEST(CheckNulls, NamesEachTemplateThatANullLeavesWithoutAKey) {
  const Result<RuleSet> rules = RuleSet::parse(
      "- table: users\n"
      "  keys: [\"user:{id}\", \"user:mail:{mail}\", \"user:name:{name|default('x')}\"]\n"
      "  where: {state: [on]}\n",
      "rules.yaml");
  ASSERT_TRUE(rules) << rules.error().to_string();
  EXPECT_EQ(check_text({{"nulls", check_nulls(*rules, {{"public.users", {"mail", "name", "state"}},
                                                       {"public.other", {"id"}}})}}),
            "nulls\n"
            "  CF003 note  rules.yaml:2:23\n"
            "    column 'mail' of 'public.users' may be NULL: key 'user:mail:{mail}' then names "
            "nothing and nothing is deleted for it\n"
            "    fix: right when readers cache nothing for NULL; otherwise write "
            "{mail|default('...')}\n"
            "all is well\n");
}

TEST(CheckFiles, JsonHoldsTheSame) {
  const Finding finding = file_finding(
      Error{ErrorKind::kUsage, "rules.yaml:14:5: unknown setting 'kyes'", "did you mean 'keys'?"});
  EXPECT_EQ(check_json({{"files", {finding}},
                        {"Redis", {{"RD005", Severity::kWarning, "server", "c", ""}}}}),
            R"({"ok":false,"errors":1,"warnings":1,"findings":[)"
            R"({"id":"CF001","severity":"error","object":"files",)"
            R"("cause":"rules.yaml:14:5: unknown setting 'kyes'","fix":"did you mean 'keys'?"},)"
            R"({"id":"RD005","severity":"warning","object":"server","cause":"c","fix":""}]})"
            "\n");
  EXPECT_EQ(check_json({{"files", {}}}),
            "{\"ok\":true,\"errors\":0,\"warnings\":0,\"findings\":[]}\n");
}

TEST(CheckFiles, ExitCodeTellsWhatToDo) {
  const auto exit_code = [](Severity severity, bool unreachable) {
    Finding finding{"X", severity, "o", "c", "f"};
    finding.is_unreachable = unreachable;
    return check_exit_code({{"files", {}}, {"x", {finding}}});
  };
  EXPECT_EQ(exit_code(Severity::kError, false), 2);
  EXPECT_EQ(exit_code(Severity::kError, true), 1);
  EXPECT_EQ(exit_code(Severity::kWarning, false), 0);
  EXPECT_EQ(exit_code(Severity::kInfo, false), 0);
  Finding away{"X", Severity::kError, "o", "c", "f"};
  away.is_unreachable = true;
  EXPECT_EQ(check_exit_code({{"a", {away}}, {"b", {{"Y", Severity::kError, "o", "c", "f"}}}}), 2);
  EXPECT_EQ(check_exit_code({}), 0);
}

// A step for each table: nothing of it is said twice, and a first check has to fit a screen all the same.
TEST(CheckText, ThirtyFindingsOfTwentyFourRulesFitOneScreen) {
  Findings files{{"CF008", Severity::kWarning, "evictd.yaml:4:3", "others reach the port", "listen on a loopback address"}};
  Findings postgres;
  for (int i = 1; i <= 24; ++i) {
    const std::string table = "public.t" + std::to_string(i);
    postgres.push_back({"PG019", Severity::kWarning, "rules.yaml:" + std::to_string(i) + ":3", "key of '" + table + "' needs the old 'slug'",
                        "ALTER TABLE " + table + " REPLICA IDENTITY FULL;"});
  }
  postgres.push_back({"PG009", Severity::kWarning, "max_slot_wal_keep_size", "no limit", "set one"});
  postgres.push_back({"PG015", Severity::kError, "rules.yaml:30:3", "table 'public.gone' does not exist", "create it"});
  Findings redis{{"RD002", Severity::kError, "cache:6379", "no right", "give it"}, {"RD009", Severity::kWarning, "rules.yaml:1:3", "matches nothing", ""}};
  const std::string text = check_text({{"files", files}, {"PostgreSQL", postgres}, {"Redis", redis}});
  EXPECT_EQ(text,
            "files\n"
            "  CF008 warning  evictd.yaml:4:3\n"
            "    others reach the port\n"
            "    fix: listen on a loopback address\n"
            "PostgreSQL\n"
            "  PG019 warning  rules.yaml:1:3, rules.yaml:2:3, rules.yaml:3:3, rules.yaml:4:3 and 20 more\n"
            "    key of 'public.t1' needs the old 'slug' (and 23 more like it)\n"
            "    fix: ALTER TABLE public.t1 REPLICA IDENTITY FULL; (and 23 more like it)\n"
            "  PG009 warning  max_slot_wal_keep_size\n"
            "    no limit\n"
            "    fix: set one\n"
            "  PG015 error  rules.yaml:30:3\n"
            "    table 'public.gone' does not exist\n"
            "    fix: create it\n"
            "Redis\n"
            "  RD002 error  cache:6379\n"
            "    no right\n"
            "    fix: give it\n"
            "  RD009 warning  rules.yaml:1:3\n"
            "    matches nothing\n"
            "gathered by kind: all of it with --json, what PostgreSQL lacks as one script with --sql\n"
            "2 errors, 27 warnings\n");
}

TEST(CheckText, WhatFitsAScreenIsSaidWhole) {
  Findings findings;
  for (int i = 1; i <= 16; ++i)
    findings.push_back({"PG019", Severity::kWarning, "rules.yaml:1:" + std::to_string(i), "needs it", "ALTER TABLE t" + std::to_string(i)});
  const std::string text = check_text({{"PostgreSQL", findings}});
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 50);
  EXPECT_THAT(text, testing::HasSubstr("fix: ALTER TABLE t16\n"));
}

TEST(CheckText, NoNameSteersATerminal) {
  const std::string text = check_text({{"PostgreSQL", {{"PG015", Severity::kError, "rules.yaml:1:3", "table '\xe2\x80\xaetneg' does not exist", "create it"}}}});
  EXPECT_THAT(text, testing::HasSubstr("table '?tneg' does not exist\n"));
}

TEST(CheckText, OneStepThatMendsManyFindingsIsSaidOnce) {
  Findings findings;
  for (int i = 1; i <= 22; ++i) {
    findings.push_back({"PG019", Severity::kWarning, "rules.yaml:" + std::to_string(i) + ":3",
                        "key 'k" + std::to_string(i) + ":{slug}' needs the old 'slug'",
                        "ALTER TABLE public.products REPLICA IDENTITY FULL;"});
  }
  findings.push_back({"PG015", Severity::kError, "rules.yaml:30:3", "table 'public.gone' does not exist", "create it"});
  EXPECT_EQ(check_text({{"PostgreSQL", findings}}),
            "PostgreSQL\n"
            "  PG019 warning  rules.yaml:1:3, rules.yaml:2:3, rules.yaml:3:3, rules.yaml:4:3 and 18 more\n"
            "    key 'k1:{slug}' needs the old 'slug'\n"
            "    key 'k2:{slug}' needs the old 'slug'\n"
            "    and 20 more like it (all of them: --json)\n"
            "    fix: ALTER TABLE public.products REPLICA IDENTITY FULL;\n"
            "  PG015 error  rules.yaml:30:3\n"
            "    table 'public.gone' does not exist\n"
            "    fix: create it\n"
            "1 error, 22 warnings\n");
}

}  // namespace
}  // namespace evictd
