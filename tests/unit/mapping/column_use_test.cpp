// What a column's type proves of a rule, and what it only suggests.
#include "mapping/column_use.h"

#include "tests/unit/mapping/support.h"

namespace evictd {
namespace {

using namespace test;  // NOLINT: the words of these tests
using Family = ColumnType::Family;
using testing::ElementsAre;
using testing::IsEmpty;

ColumnType type(Family family, const std::string& name) {
  ColumnType made;
  made.family = family;
  made.name = name;
  return made;
}

// "error|warning: cause (hint)" of each doubt about column `c`.
std::vector<std::string> doubts(const std::string& rest, const ColumnType& type) {
  const RuleSet rules = rules_from("- {table: t, " + rest + "}");
  std::vector<std::string> texts;
  for (const ColumnUse& use : column_uses(rules)) {
    for (const TypeDoubt& doubt : type_doubts(use, type)) {
      texts.push_back((doubt.is_certain ? "error: " : "warning: ") + doubt.cause + (doubt.hint.empty() ? "" : " (" + doubt.hint + ")"));
    }
  }
  return texts;
}
std::vector<std::string> where(const std::string& value, const ColumnType& type) {
  return doubts("keys: [k], where: {c: " + value + "}", type);
}

TEST(TypeDoubts, Booleans) {
  const ColumnType boolean = type(Family::kBoolean, "boolean");
  EXPECT_THAT(where("[true, false, null]", boolean), IsEmpty());
  EXPECT_THAT(where("True", boolean),
              ElementsAre("error: where: 'c' is never 'True': its type is boolean (its values are 'true' and 'false': write true)"));
  for (const char* value : {"yes", "1", "t", "on", "no", "0", "F", "2"}) EXPECT_EQ(where(value, boolean).size(), 1u) << value;
}

TEST(TypeDoubts, Numbers) {
  ColumnType integer = type(Family::kInteger, "smallint");
  integer.bytes = 2;
  EXPECT_THAT(where("[0, 7, -12, 32767, -32768]", integer), IsEmpty());
  for (const char* value : {"abc", "07", "+7", "7.0", "-0", "''", "32768", "-32769", "99999999999999999999"})
    EXPECT_EQ(where(value, integer).size(), 1u) << value;
  EXPECT_THAT(where("'>0'", integer), ElementsAre("error: where: 'c' is never '>0': its type is smallint (write {gt: 0})"));
  EXPECT_THAT(where("'>= 5'", integer), ElementsAre("error: where: 'c' is never '>= 5': its type is smallint (write {gte: 5})"));
  ColumnType numeric = type(Family::kNumeric, "numeric");
  // Without a scale each value keeps the digits that it was written with.
  EXPECT_THAT(where("[NaN, Infinity]", numeric), IsEmpty());
  EXPECT_EQ(where("[0, 1.50, -0.01]", numeric).size(), 3u);
  EXPECT_THAT(where("[7]", numeric), ElementsAre("warning: where: 'c' is compared with '7' as a text, which '7.0' is not: its type is numeric "
                                                 "({gte: 7, lte: 7} compares by value)"));
  EXPECT_EQ(where("[abc, 1e3, '.5', '1.']", numeric).size(), 4u);
  numeric.name = "numeric(10,2)";
  numeric.scale = 2;
  EXPECT_THAT(where("1.50", numeric), IsEmpty());
  EXPECT_THAT(where("1.5", numeric), ElementsAre("error: where: 'c' is never '1.5': its type is numeric(10,2) (its values have 2 digits "
                                                 "after the point, such as '1.50'; {gte: ..., lte: ...} compares by value)"));
  EXPECT_EQ(where("7", numeric).size(), 1u);
  EXPECT_THAT(where("[1e-7, NaN, 0.5, 7, -0.25]", type(Family::kFloat, "real")), IsEmpty());
  EXPECT_EQ(where("['0.50', '7.0', '.5', '07']", type(Family::kFloat, "real")).size(), 4u);
  EXPECT_EQ(where("abc", type(Family::kFloat, "real")).size(), 1u);
}

TEST(TypeDoubts, Times) {
  EXPECT_THAT(where("['2024-02-03', infinity, '0044-03-15 BC']", type(Family::kDate, "date")), IsEmpty());
  EXPECT_EQ(where("['2024-2-3', '2024-02-03T00:00:00', today]", type(Family::kDate, "date")).size(), 3u);
  EXPECT_THAT(where("'2024-02-03T04:05:06.789'", type(Family::kTimestamp, "timestamp")), IsEmpty());
  EXPECT_EQ(where("['2024-02-03', '2024-02-03 04:05:06', '2024-02-03T04:05:06Z', '2024-02-03T04:05:06.500']",
                  type(Family::kTimestamp, "timestamp")).size(), 4u);
  EXPECT_THAT(where("'2024-02-03T04:05:06Z'", type(Family::kTimestampTz, "timestamptz")), IsEmpty());
  EXPECT_EQ(where("['2024-02-03T04:05:06', '2024-02-03T04:05:06+02']", type(Family::kTimestampTz, "timestamptz")).size(), 2u);
}

TEST(TypeDoubts, OtherTypes) {
  EXPECT_THAT(where("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", type(Family::kUuid, "uuid")), IsEmpty());
  EXPECT_EQ(where("[A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11, abc]", type(Family::kUuid, "uuid")).size(), 2u);
  EXPECT_THAT(where("'{\"a\":1}'", type(Family::kJson, "jsonb")), IsEmpty());
  EXPECT_THAT(where("'{\"a\": 1}'", type(Family::kJson, "jsonb")),
              ElementsAre("error: where: 'c' is never '{\"a\": 1}': its type is jsonb (its values are compared as compact JSON: write "
                          "'{\"a\":1}')"));
  EXPECT_EQ(where("draft", type(Family::kJson, "jsonb")).size(), 1u);
  EXPECT_THAT(where("'{a,b}'", type(Family::kArray, "text[]")), IsEmpty());
  EXPECT_THAT(where("['{\"a b\",c}', '{\"\\\" \",c}', '{}']", type(Family::kArray, "text[]")), IsEmpty());
  EXPECT_EQ(where("[a, '{a, b}', '{a b}']", type(Family::kArray, "text[]")).size(), 3u);
  EXPECT_THAT(where("deadbeef", type(Family::kBytea, "bytea")), IsEmpty());
  EXPECT_EQ(where("['\\xdead', DEAD, abc]", type(Family::kBytea, "bytea")).size(), 3u);
  ColumnType state = type(Family::kEnum, "state");
  state.labels = {"draft", "published", "hidden"};
  EXPECT_THAT(where("[published, hidden, null]", state), IsEmpty());
  EXPECT_THAT(where("[publishd]", state),
              ElementsAre("error: where: 'c' is never 'publishd': its type is state (did you mean 'published'?)"));
  ColumnType varchar = type(Family::kText, "varchar(3)");
  varchar.length = 3;
  EXPECT_THAT(where("[abc, é, '']", varchar), IsEmpty());
  EXPECT_EQ(where("abcd", varchar).size(), 1u);
  varchar.is_padded = true;
  varchar.name = "char(3)";
  EXPECT_THAT(where("'a  '", varchar), IsEmpty());
  EXPECT_EQ(where("a", varchar).size(), 1u);
  for (const Family family : {Family::kUnknown, Family::kText})
    EXPECT_THAT(where("[anything, 1, '{']", type(family, "x")), IsEmpty());
}

TEST(TypeDoubts, TypesOfWhichOneValueHasManyTexts) {
  EXPECT_THAT(where("'24 hours'", type(Family::kOther, "interval")),
              ElementsAre("warning: where: 'c' is compared with the text '24 hours': its type is interval (it has to be as PostgreSQL prints it: "
                          "SELECT CAST('24 hours' AS interval);)"));
  EXPECT_THAT(where("\"'a'\"", type(Family::kOther, "tsvector")), ElementsAre(::testing::HasSubstr("SELECT CAST('''a''' AS tsvector);")));
}

TEST(TypeDoubts, TypesWithATextOfTheirOwn) {
  const ColumnType inet = type(Family::kInet, "inet"), cidr = type(Family::kCidr, "cidr");
  EXPECT_THAT(where("['10.0.0.1', '10.0.0.1/8', '::1', 'fe80::/10', '::ffff:1.2.3.4']", inet), IsEmpty());
  EXPECT_EQ(where("['10.0.0.1/32', '10.0.0.01', '10.1', '::1/128', 'FE80::1', 'fe80:0:0:0:0:0:0:1', localhost, '']", inet).size(), 8u);
  EXPECT_THAT(where("['10.0.0.0/8', '10.0.0.1/32', '::/0']", cidr), IsEmpty());
  EXPECT_EQ(where("['10.0.0.0', '10.0.0.0/33', '10.0.0.0/08']", cidr).size(), 3u);
  ColumnType time = type(Family::kTime, "time without time zone");
  EXPECT_THAT(where("['09:00:00', '24:00:00', '09:00:00.5', '09:00:00.123456']", time), IsEmpty());
  EXPECT_THAT(where("['9:00']", time),
              ElementsAre("error: where: 'c' is never '9:00': its type is time without time zone (its values are such as '09:00:00' or '09:00:00.5')"));
  EXPECT_EQ(where("['09:00', '09:00:00.50', '09:00:00+00', noon]", time).size(), 4u);
  time.has_zone = true;
  EXPECT_THAT(where("['09:00:00+00', '09:00:00.5-03:30']", time), IsEmpty());
  EXPECT_EQ(where("['09:00:00', '09:00:00Z', '09:00:00+0']", time).size(), 3u);
  ColumnType mac = type(Family::kMacaddr, "macaddr");
  mac.bytes = 6;
  EXPECT_THAT(where("['08:00:2b:01:02:03']", mac), IsEmpty());
  EXPECT_EQ(where("['08-00-2b-01-02-03', '08:00:2B:01:02:03', '08:00:2b:01:02', '']", mac).size(), 4u);
  ColumnType bits = type(Family::kBits, "bit varying(3)");
  EXPECT_THAT(where("['', '1', '10101']", bits), IsEmpty());
  bits.length = 3;
  EXPECT_EQ(where("['101', '1', '1010', B101, '2']", bits).size(), 3u);
  bits.is_padded = true;
  EXPECT_EQ(where("['101', '1', '1010']", bits).size(), 2u);
  EXPECT_THAT(where("['0', '4294967295']", type(Family::kOid, "oid")), IsEmpty());
  EXPECT_EQ(where("['-1', '4294967296', '007', pg_class]", type(Family::kOid, "oid")).size(), 4u);
}

TEST(TypeDoubts, TextsThatAreEqualToTheDatabaseAndNotTheSame) {
  ColumnType loose = type(Family::kText, "citext");
  loose.equal_by = "citext";
  EXPECT_THAT(where("[Draft, '7']", loose),
              ElementsAre("warning: where: 'c' is compared with 'Draft' letter by letter, and citext makes others equal to it: its type is citext "
                          "(name each text that rows may hold, or leave the condition out)"));
}

TEST(TypeDoubts, ATextThatLooksLikeAComparisonIsOnlySuspicious) {
  EXPECT_THAT(where("'>0'", type(Family::kText, "text")),
              ElementsAre("warning: where: 'c' is compared with the text '>0': its type is text (write {gt: 0} if a comparison is meant)"));
}

TEST(TypeDoubts, Comparisons) {
  EXPECT_THAT(where("{gt: 0, lt: 10.5}", type(Family::kNumeric, "numeric")), IsEmpty());
  EXPECT_THAT(where("{crosses: 0}", type(Family::kFloat, "real")), IsEmpty());
  EXPECT_THAT(where("{gte: '2024-01-01'}", type(Family::kTimestampTz, "timestamptz")), IsEmpty());
  EXPECT_THAT(where("{gte: '2024-01-01T00:00:00'}", type(Family::kTimestamp, "timestamp")), IsEmpty());
  EXPECT_THAT(where("{gte: '2024-01-01T00:00:00'}", type(Family::kTimestampTz, "timestamptz")),
              ElementsAre("error: where: 'c' cannot be compared with '2024-01-01T00:00:00': its type is timestamptz (put a 'Z' at the end: "
                          "the column's times are in UTC)"));
  for (const Family family : {Family::kBoolean, Family::kJson, Family::kUuid, Family::kDate, Family::kArray, Family::kEnum})
    EXPECT_EQ(where("{gt: 0}", type(family, "x")).size(), 1u);
  EXPECT_EQ(where("{gt: '2024-01-01'}", type(Family::kInteger, "integer")).size(), 1u);
  // As it was written.
  EXPECT_THAT(where("{gt: 3}", type(Family::kText, "text")),
              ElementsAre("warning: where: 'c' is compared with the number '3': its type is text (a text that is none always matches)"));
  ColumnType state = type(Family::kEnum, "state");
  EXPECT_EQ(where("{not: [gone]}", state).at(0).substr(0, 8), "warning:");
}

TEST(TypeDoubts, Templates) {
  const auto key = [](const std::string& text, const ColumnType& of) { return doubts("keys: [\"" + text + "\"]", of); };
  EXPECT_THAT(key("k:{c.a}", type(Family::kJson, "jsonb")), IsEmpty());
  EXPECT_EQ(key("k:{c.a}", type(Family::kText, "text")).at(0).substr(0, 8), "warning:");
  EXPECT_THAT(key("k:{c.0}", type(Family::kArray, "text[]")),
              ElementsAre("error: key 'k:{c.0}': 'c' has a path behind it: its type is text[] (a path leads into JSON; {c.*} gives one key for "
                          "each element)"));
  EXPECT_EQ(key("k:{c.a}", type(Family::kInteger, "integer")).at(0).substr(0, 6), "error:");
  EXPECT_THAT(key("k:{c.*}", type(Family::kArray, "text[]")), IsEmpty());
  EXPECT_THAT(key("k:{c.*}", type(Family::kJson, "jsonb")), IsEmpty());
  EXPECT_EQ(key("k:{c.*}", type(Family::kInteger, "integer")).at(0).substr(0, 6), "error:");
  EXPECT_THAT(key("k:{c|date('%Y')}", type(Family::kTimestamp, "timestamp")), IsEmpty());
  EXPECT_EQ(key("k:{c|date('%Y')}", type(Family::kText, "text")).at(0).substr(0, 8), "warning:");
  EXPECT_EQ(key("k:{c|date('%Y')}", type(Family::kUuid, "uuid")).at(0).substr(0, 6), "error:");
  EXPECT_THAT(key("k:{c|lower}", type(Family::kUuid, "uuid")), IsEmpty());
}

}  // namespace
}  // namespace evictd
