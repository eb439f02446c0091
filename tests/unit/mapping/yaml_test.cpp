#include "mapping/yaml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace evictd {
namespace {

using std::chrono::milliseconds;
using testing::AllOf;
using testing::ElementsAre;
using testing::EndsWith;
using testing::StartsWith;

std::string error_of(std::string_view text) {
  const Result<YamlNode> root = parse_yaml(text, "f.yaml");
  return root ? "" : root.error().to_string();
}

YamlNode parsed(std::string_view text) {
  Result<YamlNode> root = parse_yaml(text, "f.yaml");
  EXPECT_TRUE(root.has_value()) << (root ? "" : root.error().to_string());
  return root ? std::move(*root) : YamlNode{};
}

// The value of `x: <text>`.
YamlNode value_of(std::string_view text) {
  return parsed("x: " + std::string(text)).entries.at(0).value;
}

template <typename T>
std::string outcome(const Result<T>& result) {
  if (!result) {
    EXPECT_EQ(result.error().kind, ErrorKind::kUsage);
    return result.error().to_string();
  }
  if constexpr (std::is_same_v<T, milliseconds>) {
    return std::to_string(result->count());
  } else if constexpr (std::is_same_v<T, std::string>) {
    return *result;
  } else {
    return std::to_string(*result);
  }
}

TEST(Yaml, EveryNodeKnowsItsPlace) {
  const YamlNode root = parsed("a: 1\nb:\n  - x\n  - {c: y}\n");
  EXPECT_EQ(root.place.to_string(), "f.yaml:1:1");
  EXPECT_EQ(root.entries[0].place.to_string(), "f.yaml:1:1");
  EXPECT_EQ(root.entries[0].value.place.to_string(), "f.yaml:1:4");
  EXPECT_EQ(root.entries[0].value.name, "a");
  const YamlNode& list = root.entries[1].value;
  EXPECT_EQ(list.items[0].place.to_string(), "f.yaml:3:5");
  EXPECT_EQ(list.items[0].name, "b");
  EXPECT_EQ(list.items[1].entries[0].value.place.to_string(), "f.yaml:4:9");
}

TEST(Yaml, QuotesAreRememberedAndNothingIsNull) {
  EXPECT_FALSE(value_of("1").quoted);
  EXPECT_TRUE(value_of("'1'").quoted);
  EXPECT_TRUE(value_of("|\n  block\n").quoted);
  EXPECT_EQ(value_of("").kind, YamlNode::Kind::kNull);
  EXPECT_EQ(value_of("~").kind, YamlNode::Kind::kNull);
  EXPECT_EQ(value_of("''").kind, YamlNode::Kind::kText);
  EXPECT_EQ(value_of("").place.to_string(), "f.yaml:1:1");  // of its name
}

TEST(Yaml, AnEmptyTextIsANullNode) {
  EXPECT_EQ(parsed("").kind, YamlNode::Kind::kNull);
  EXPECT_EQ(parsed("# only a comment\n").place.to_string(), "f.yaml:1:1");
}

TEST(Yaml, RefusesWhatNoFileOfOursNeeds) {
  EXPECT_EQ(error_of("a: 1\na: 2\n"),
            "f.yaml:2:1: duplicate setting 'a'\nhint: it was given before, in line 1");
  EXPECT_EQ(error_of("a: &x 1\nb: *x\n"),
            "f.yaml:1:4: anchors ('&name') are not supported\nhint: write the value out in full");
  EXPECT_EQ(error_of("a: &x [1]\n"),
            "f.yaml:1:4: anchors ('&name') are not supported\nhint: write the value out in full");
  EXPECT_EQ(error_of("a: !!int 1\n"),
            "f.yaml:1:4: tags are not supported, got 'tag:yaml.org,2002:int'");
  EXPECT_EQ(error_of("a: !mine [1]\n"), "f.yaml:1:4: tags are not supported, got '!mine'");
  EXPECT_EQ(error_of("a: 1\n---\nb: 1\n"), "f.yaml:2:1: expected one document, got a second one");
  EXPECT_EQ(error_of("[a]: 1\n"),
            "f.yaml:1:1: expected the name of a setting, got a list or map\nhint: put texts that "
            "begin with '{' or "
            "'[' in quotes");
  EXPECT_EQ(error_of("~: 1\n"), "f.yaml:1:1: expected the name of a setting, got nothing");
}

// The first words of these are ours, the last the library's.
TEST(Yaml, BrokenYamlIsPlaced) {
  const std::string hint =
      "\nhint: a text that holds one of { } [ ] : # or , or begins with one of * & ! | > % @ or `, stands in quotes";
  EXPECT_THAT(error_of("a: b: c\n"),
              AllOf(StartsWith("f.yaml:1:5: not valid YAML: "), EndsWith(hint)));
  EXPECT_THAT(error_of("a: *x\n"),
              AllOf(StartsWith("f.yaml:1:4: not valid YAML: "), EndsWith(hint)));
  EXPECT_THAT(error_of("a: @x\n"), EndsWith(hint));
}

TEST(Yaml, AListThatIsNotClosedIsSaid) {
  const std::string hint =
      "\nhint: '[' ends with ']' and '{' with '}', a ',' stands between what is in them, and a text that holds one of { } [ ] : # or , in quotes";
  EXPECT_THAT(error_of("a: [1\n"), AllOf(StartsWith("f.yaml:2:1: not valid YAML: "), EndsWith(hint)));
  EXPECT_THAT(error_of("a: [1,\n  2\n"), AllOf(StartsWith("f.yaml:3:1: not valid YAML: "), EndsWith(hint)));
  EXPECT_THAT(error_of("a: {b: 1\nc: 2\n"), EndsWith(hint));
  EXPECT_THAT(error_of("a: [\"x\" \"y\"]\n"), EndsWith(hint));
  EXPECT_THAT(error_of("a: [p:{id}]\n"), EndsWith("stands in quotes"));
}

TEST(Yaml, ALineThatBeginsInNoColumnOfTheLinesAboveIsSaid) {
  const std::string hint =
      "\nhint: this line begins where none does that it can go on: indent it as the line above it that it belongs beside";
  EXPECT_THAT(error_of("a:\n  b: 1\n c:\n  d: 2\n"), AllOf(StartsWith("f.yaml:3:2: not valid YAML: "), EndsWith(hint)));
  EXPECT_THAT(error_of("a:\n  - b: 1\n   c: 2\n"), EndsWith(hint));
  EXPECT_THAT(error_of("a:\n  - b: 1\n  c: 2\n"), EndsWith(hint));
  EXPECT_THAT(error_of("a:\n  - b: 1\n- b: 2\n"), EndsWith(hint));
  EXPECT_THAT(error_of("a:\n  - b: 1\n - b: 2\n"), EndsWith(hint));
  EXPECT_THAT(error_of("a:\n  - b:\n      - 1\n     - 2\n"), EndsWith(hint));
  EXPECT_THAT(error_of("a:\n  - b:\n    - 1\n# a comment\n\n   c: 2\n"), EndsWith(hint));
}

TEST(Yaml, WhatStandsBehindAValueIsSaid) {
  const std::string hint = "\nhint: nothing stands behind the value of a setting: take that out";
  EXPECT_THAT(error_of("a: [\"x\"],\nb: 1\n"), AllOf(StartsWith("f.yaml:1:9: not valid YAML: "), EndsWith(hint)));
  EXPECT_THAT(error_of("a: \"x\";\n"), EndsWith(hint));
  EXPECT_THAT(error_of("- \"x\" \"y\"\n"), EndsWith("stands in quotes"));
}

// The library calls all of these an illegal value, and names the line behind.
TEST(Yaml, WhatTheLineBeforeLacksIsSaid) {
  const std::string column = "hint: the settings of one map begin in one column, and this line begins further right than the one before, "
                             "which has a value already";
  EXPECT_EQ(error_of("a:\n  b: 1\n   c: 2\n"), "f.yaml:3:5: not valid YAML: illegal map value\n" + column);
  EXPECT_THAT(error_of("a:\n  b: 1\n# a comment\n\n    c: 2\n"), EndsWith(column));
  const std::string blank = "hint: in the line before, a blank stands between the ':' of a setting and its value";
  EXPECT_EQ(error_of("a:\n  b:1\n  c: 2\n"), "f.yaml:3:4: not valid YAML: illegal map value\n" + blank);
  EXPECT_THAT(error_of("a:\n  -b: 1\n   c: 2\n"), EndsWith("hint: in the line before, a blank stands between the '-' of a list's item and its text"));
  EXPECT_THAT(error_of("a:\n  url:postgresql://u:hunter2@h/d\n  c: 2\n"), AllOf(EndsWith(blank), testing::Not(testing::HasSubstr("hunter2"))));
}

// yaml-cpp would take the rest of the file for the text.
TEST(Yaml, AQuoteThatIsNotClosedIsAnError) {
  const std::string expected =
      "not valid YAML: expected a closing quote, got the end of the file\nhint: some text above "
      "begins "
      "with a quote and does not end with one";
  EXPECT_EQ(error_of("a: 'x"), "f.yaml:1:1: " + expected);
  EXPECT_EQ(error_of("a: 'x\n"), "f.yaml:2:1: " + expected);
  EXPECT_EQ(error_of("a: \"x\nb: y\n"), "f.yaml:3:1: " + expected);
}

TEST(Yaml, MarksOfTheEndOfADocumentAreFine) {
  EXPECT_EQ(parsed("a: 1\n...\n").entries.size(), 1u);
  EXPECT_EQ(parsed("---\na: |\n  text\n").entries[0].value.text, "text\n");
  EXPECT_EQ(parsed("a: |\n  text").entries[0].value.text, "text\n");
  EXPECT_EQ(parsed("a: |-\n  text").entries[0].value.text, "text");
  EXPECT_EQ(parsed("a: |+\n  text\n\n").entries[0].value.text, "text\n\n");
  EXPECT_EQ(parsed("a: plain\n  text").entries[0].value.text, "plain text");
}

TEST(Yaml, BytesThatWouldBeMisreadAreRefused) {
  EXPECT_EQ(error_of("a: 1\nb: \x04x\n"), "f.yaml:2:4: unexpected control character 0x04");
  EXPECT_EQ(error_of(std::string_view("a: \0", 4)),
            "f.yaml:1:4: unexpected control character 0x00");
  EXPECT_EQ(error_of("é: \xff"), "f.yaml:1:4: expected UTF-8 text, got the byte 0xff");
  EXPECT_EQ(error_of("\xc0\xaf"), "f.yaml:1:1: expected UTF-8 text, got the byte 0xc0");
}

TEST(Yaml, LimitsHold) {
  EXPECT_EQ(error_of(std::string(kYamlBytesMax + 1, ' ')),
            "f.yaml:1:1: expected a file of at most 1MiB, got 1048577 bytes");
  EXPECT_EQ(error_of(std::string(33, '[') + std::string(33, ']')),
            "f.yaml:1:33: expected at most 32 levels, got more");
  EXPECT_NE(error_of(std::string(100'000, '[')), "");
  EXPECT_NE(error_of("a: " + std::string(100'000, '{')), "");
  std::string wide = "[";
  for (std::size_t i = 0; i < kYamlNodesMax; ++i) wide += "a,";
  EXPECT_EQ(error_of(wide + "]"), "f.yaml:1:200000: expected at most 100000 values in a file");
}

TEST(YamlValues, Text) {
  EXPECT_EQ(outcome(yaml_text(value_of("1"))), "1");
  EXPECT_EQ(outcome(yaml_text(value_of("''"))), "");
  EXPECT_EQ(outcome(yaml_text(value_of("~"))), "f.yaml:1:1: 'x': expected a text, got nothing");
  EXPECT_EQ(outcome(yaml_text(value_of("{id}"))),
            "f.yaml:1:4: 'x': expected a text, got a map\nhint: put texts that begin with '{' or "
            "'[' in quotes");
}

TEST(YamlValues, Bool) {
  EXPECT_EQ(outcome(yaml_bool(value_of("true"))), "1");
  EXPECT_EQ(outcome(yaml_bool(value_of("false"))), "0");
  EXPECT_EQ(outcome(yaml_bool(value_of("yes"))),
            "f.yaml:1:4: 'x': expected true or false, got 'yes'");
  EXPECT_EQ(outcome(yaml_bool(value_of("'true'"))),
            "f.yaml:1:4: 'x': expected true or false, got 'true'");
}

TEST(YamlValues, Unsigned) {
  EXPECT_EQ(outcome(yaml_unsigned(value_of("7"), 1, 10)), "7");
  for (const char* text :
       {"0", "11", "-1", "1.0", "0x5", "1e1", "''", "99999999999999999999", "7 "}) {
    EXPECT_TRUE(!yaml_unsigned(value_of(text), 1, 10) || std::string(text) == "7 ") << text;
  }
  EXPECT_EQ(outcome(yaml_unsigned(value_of("11"), 1, 10)),
            "f.yaml:1:4: 'x': expected a whole number from 1 to 10, got '11'");
}

TEST(YamlValues, Duration) {
  const auto duration = [](std::string_view text) {
    return outcome(yaml_duration(value_of(text), milliseconds(1), milliseconds(7'200'000)));
  };
  EXPECT_EQ(duration("250ms"), "250");
  EXPECT_EQ(duration("1s"), "1000");
  EXPECT_EQ(duration("5m"), "300000");
  EXPECT_EQ(duration("1h"), "3600000");
  const std::string hint = "\nhint: write a whole number and a unit: 250ms, 1s, 5m or 1h";
  EXPECT_EQ(duration("5"), "f.yaml:1:4: 'x': expected a duration, got '5'" + hint);
  EXPECT_EQ(duration("1.5s"), "f.yaml:1:4: 'x': expected a duration, got '1.5s'" + hint);
  EXPECT_EQ(duration("s"), "f.yaml:1:4: 'x': expected a duration, got 's'" + hint);
  EXPECT_EQ(duration("-1s"), "f.yaml:1:4: 'x': expected a duration, got '-1s'" + hint);
  EXPECT_EQ(duration("9223372036854775807h"),
            "f.yaml:1:4: 'x': expected a duration, got '9223372036854775807h'" + hint);
  EXPECT_EQ(duration("[1s]"), "f.yaml:1:4: 'x': expected a duration, got a list" + hint);
  EXPECT_EQ(duration("3h"), "f.yaml:1:4: 'x': expected a duration from 1ms to 2h, got '3h'");
  EXPECT_EQ(duration("0s"), "f.yaml:1:4: 'x': expected a duration from 1ms to 2h, got '0s'");
}

TEST(YamlValues, Size) {
  const auto size = [](std::string_view text) {
    return outcome(yaml_size(value_of(text), 1024, 1 << 30));
  };
  EXPECT_EQ(size("2048B"), "2048");
  EXPECT_EQ(size("64KiB"), "65536");
  EXPECT_EQ(size("64MiB"), "67108864");
  EXPECT_EQ(size("1GiB"), "1073741824");
  EXPECT_EQ(size("64"),
            "f.yaml:1:4: 'x': expected a size, got '64'\nhint: write a whole number and a unit: "
            "512B, 64KiB, 64MiB or 1GiB");
  EXPECT_EQ(size("64MB"),
            "f.yaml:1:4: 'x': expected a size, got '64MB'\nhint: write a whole number and a unit: "
            "512B, 64KiB, 64MiB or 1GiB");
  EXPECT_EQ(size("2GiB"), "f.yaml:1:4: 'x': expected a size from 1KiB to 1GiB, got '2GiB'");
}

TEST(YamlValues, Texts) {
  EXPECT_THAT(*yaml_texts(value_of("[a, 'b', 3]")), ElementsAre("a", "b", "3"));
  EXPECT_THAT(*yaml_texts(value_of("a")), ElementsAre("a"));
  EXPECT_THAT(*yaml_texts(value_of("[]")), ElementsAre());
  EXPECT_EQ(yaml_texts(value_of("{a: b}")).error().to_string(),
            "f.yaml:1:4: 'x': expected a list of texts, got a map");
  EXPECT_EQ(yaml_texts(value_of("[a, [b]]")).error().to_string(),
            "f.yaml:1:8: 'x': expected a text, got a list\nhint: put texts that begin with '{' or "
            "'[' in quotes");
  EXPECT_EQ(yaml_texts(value_of("[a, b, a]")).error().to_string(),
            "f.yaml:1:11: 'x': 'a' is given twice");
}

TEST(YamlValues, Choice) {
  constexpr std::string_view kNames[] = {"purge", "stop", "ignore"};
  EXPECT_EQ(outcome(yaml_choice(value_of("stop"), kNames)), "1");
  EXPECT_EQ(outcome(yaml_choice(value_of("stpo"), kNames)),
            "f.yaml:1:4: 'x': expected 'purge', 'stop' or 'ignore', got 'stpo'\nhint: did you mean "
            "'stop'?");
  EXPECT_EQ(outcome(yaml_choice(value_of("never"), kNames)),
            "f.yaml:1:4: 'x': expected 'purge', 'stop' or 'ignore', got 'never'");
}

TEST(YamlValues, SecretsAreNeverShown) {
  YamlNode node = value_of("hunter2");
  node.secret = true;
  EXPECT_EQ(outcome(yaml_bool(node)), "f.yaml:1:4: 'x': expected true or false, got another text");
  constexpr std::string_view kNames[] = {"hunter3"};
  EXPECT_EQ(outcome(yaml_choice(node, kNames)),
            "f.yaml:1:4: 'x': expected 'hunter3', got another text");
}

TEST(YamlValues, LongAndOddTextsAreMadePrintable) {
  EXPECT_EQ(outcome(yaml_bool(value_of("\"a\\nb\""))),
            "f.yaml:1:4: 'x': expected true or false, got 'a?b'");
  EXPECT_EQ(outcome(yaml_bool(value_of(std::string(5000, 'y')))),
            "f.yaml:1:4: 'x': expected true or false, got '" + std::string(120, 'y') + "...'");
}

TEST(YamlValues, DurationsAndSizesPrintAsTheyAreWritten) {
  EXPECT_EQ(duration_text(milliseconds(0)), "0ms");
  EXPECT_EQ(duration_text(milliseconds(1500)), "1500ms");
  EXPECT_EQ(duration_text(milliseconds(90'000)), "90s");
  EXPECT_EQ(duration_text(milliseconds(300'000)), "5m");
  EXPECT_EQ(size_text(0), "0B");
  EXPECT_EQ(size_text(1025), "1025B");
  EXPECT_EQ(size_text(64 << 20), "64MiB");
}

enum class Colour { kRed, kBlue };
constexpr std::pair<std::string_view, Colour> kColours[] = {{"red", Colour::kRed},
                                                            {"blue", Colour::kBlue}};

TEST(YamlMap, ReadsWhatIsThereAndKeepsDefaults) {
  const YamlNode root =
      parsed("slot: s\nflag: true\nport: 9\nsettle: 2s\nlimit: 1KiB\ncolour: blue\nlist: [a]\n");
  YamlMap map(root, "the test");
  std::string slot = "default";
  std::string other = "default";
  std::optional<std::string> absent;
  bool flag = false;
  std::uint64_t port = 0;
  std::uint64_t limit = 0;
  milliseconds settle{0};
  Colour colour = Colour::kRed;
  std::vector<std::string> list;
  EXPECT_TRUE(map.read("slot", slot));
  EXPECT_FALSE(map.read("other", other));
  EXPECT_FALSE(map.read("absent", absent));
  map.read("flag", flag);
  map.read("port", port, 1, 10);
  map.read("settle", settle, milliseconds(0), milliseconds(5000));
  map.read_size("limit", limit, 1, 4096);
  map.read("colour", colour, kColours);
  map.read("list", list);
  EXPECT_TRUE(map.finish().has_value());
  EXPECT_EQ(slot, "s");
  EXPECT_EQ(other, "default");
  EXPECT_EQ(absent, std::nullopt);
  EXPECT_TRUE(flag);
  EXPECT_EQ(port, 9u);
  EXPECT_EQ(settle, milliseconds(2000));
  EXPECT_EQ(limit, 1024u);
  EXPECT_EQ(colour, Colour::kBlue);
  EXPECT_THAT(list, ElementsAre("a"));
}

// '{url:postgresql://...}' has one setting without a value: its name is the URL.
TEST(YamlMap, ANameThatTellsHowToConnectIsNotShown) {
  const std::string hint = "\nhint: a blank stands between the ':' of a setting and its value";
  for (const char* text : {"{url:postgresql://u:hunter2@h/d, slot: x}", "{url=postgresql://u:hunter2@h/d}", "postgresql://u:hunter2@h/d: \n"}) {
    const YamlNode root = parsed(text);
    YamlMap map(root, "'postgres'");
    EXPECT_EQ(map.find("slot") != nullptr, std::string_view(text).find("slot") != std::string_view::npos);
    EXPECT_THAT(map.finish().error().to_string(), EndsWith("expected the name of a setting in 'postgres', got a URL" + hint)) << text;
  }
  const YamlNode words = parsed("{url=host=h password=hunter2}");
  YamlMap map(words, "'postgres'");
  EXPECT_EQ(map.finish().error().to_string(), "f.yaml:1:2: expected the name of a setting in 'postgres', got settings of a connection" + hint);
  EXPECT_EQ(error_of("postgresql://u:hunter2@h/d: \npostgresql://u:hunter2@h/d: \n"),
            "f.yaml:2:1: duplicate setting a URL\nhint: it was given before, in line 1");
}

TEST(YamlMap, ASettingWithoutItsBlankIsTold) {
  const YamlNode root = parsed("postgres:\n  slot:evictd\n");
  YamlMap map(root.entries[0].value, "'postgres'");
  EXPECT_EQ(map.finish().error().to_string(),
            "f.yaml:2:3: 'postgres': expected a map of settings, got a text\nhint: a blank stands between the ':' of a setting and its value");
}

TEST(YamlMap, UnknownSettingsGetAHint) {
  const YamlNode root = parsed("slto: x\n");
  YamlMap map(root, "'postgres'");
  EXPECT_EQ(map.find("slot"), nullptr);
  EXPECT_EQ(map.finish().error().to_string(),
            "f.yaml:1:1: unknown setting 'slto' in 'postgres'\nhint: did you mean 'slot'?");
}

TEST(YamlMap, TheFirstErrorOfTheFileIsReported) {
  const YamlNode root = parsed("a: 1\nb: maybe\nc: maybe\n");
  YamlMap map(root, "the test");
  bool value = false;
  map.read("c", value);
  map.read("b", value);
  EXPECT_FALSE(map.ok());
  EXPECT_EQ(map.finish().error().text, "f.yaml:1:1: unknown setting 'a' in the test");
}

TEST(YamlMap, AMistypedNameExplainsAMissingSetting) {
  const YamlNode root = parsed("tabel: x\n");
  YamlMap map(root, "the test");
  EXPECT_EQ(map.require("table"), nullptr);
  EXPECT_EQ(map.finish().error().to_string(),
            "f.yaml:1:1: unknown setting 'tabel' in the test\nhint: did you mean 'table'?");
}

TEST(YamlMap, MissingSettings) {
  const YamlNode root = parsed("");
  YamlMap map(root, "the test");
  EXPECT_EQ(map.require("table"), nullptr);
  EXPECT_EQ(map.finish().error().to_string(), "f.yaml:1:1: missing setting 'table' in the test");
}

TEST(YamlMap, AnythingButAMapIsAnError) {
  const YamlNode root = parsed("x: [1]\n");
  YamlMap map(root.entries[0].value, "the test");
  EXPECT_EQ(map.require("table"), nullptr);
  EXPECT_EQ(map.finish().error().to_string(),
            "f.yaml:1:4: 'x': expected a map of settings, got a list");
}

// Written in place of a server's settings: its URL or its token, which no message may repeat.
TEST(YamlMap, ATextInPlaceOfAMapIsNotRepeated) {
  const auto error_of = [](const std::string& text) {
    const YamlNode root = parsed(text);
    return YamlMap(root.entries[0].value, "the test").finish().error();
  };
  EXPECT_EQ(error_of("redis: redis://u:hunter2@h/0\n").text, "f.yaml:1:8: 'redis': expected a map of settings, got a URL");
  EXPECT_EQ(error_of("redis: redis://u:hunter2@h/0\n").hint, "write it as {url: ...}");
  EXPECT_EQ(error_of("fastly: hunter2\n").to_string(), "f.yaml:1:9: 'fastly': expected a map of settings, got a text");
}

TEST(YamlValues, AUrlIsNotRepeated) {
  EXPECT_EQ(describe(parsed("x: redis://u:hunter2@h/0\n").entries[0].value), "a URL");
  EXPECT_EQ(describe(parsed("x: hello\n").entries[0].value), "'hello'");
}

TEST(YamlMap, ErrorsOfTheCallerAreOrderedLikeTheOthers) {
  const YamlNode root = parsed("a: 1\nb: 2\n");
  YamlMap map(root, "the test");
  map.take(fail_at(map.place_of("b"), "second"), map.place_of("b"));
  map.take(Error{ErrorKind::kUsage, "first", {}}, map.find("a")->place);
  map.find("b");
  map.take_last(fail_at(root.place, "last"));
  EXPECT_EQ(map.finish().error().text, "first");
}

}  // namespace
}  // namespace evictd
