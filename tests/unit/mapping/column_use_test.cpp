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
  numeric.digits = 10;
  numeric.scale = 2;
  EXPECT_THAT(where("1.50", numeric), IsEmpty());
  EXPECT_THAT(where("1.5", numeric), ElementsAre("error: where: 'c' is never '1.5': its type is numeric(10,2) (its values have 2 digits "
                                                 "after the point, such as '1.50'; {gte: ..., lte: ...} compares by value)"));
  EXPECT_EQ(where("7", numeric).size(), 1u);
  EXPECT_THAT(where("['99999999.00', '-0.01', '0.00', NaN]", numeric), IsEmpty());
  for (const char* value : {"'100000000.00'", "'-0.00'", "Infinity", "'01.00'"}) EXPECT_EQ(where(value, numeric).size(), 1u) << value;
  numeric.name = "numeric(4,-2)";
  numeric.digits = 4;
  numeric.scale = -2;
  EXPECT_THAT(where("[0, 1200, 999900, -100, NaN]", numeric), IsEmpty());
  EXPECT_THAT(where("1234", numeric), ElementsAre("error: where: 'c' is never '1234': its type is numeric(4,-2) (its values end in 2 zeros before the point)"));
  for (const char* value : {"10", "1", "1000000", "'1200.0'"}) EXPECT_EQ(where(value, numeric).size(), 1u) << value;
  EXPECT_THAT(where("{gt: 1100, lt: 1300}", numeric), IsEmpty());
  EXPECT_THAT(where("{gte: 999900}", numeric), IsEmpty());
  EXPECT_EQ(where("{gt: 1200, lt: 1300}", numeric).size(), 1u);
  EXPECT_EQ(where("{gt: 999900}", numeric).size(), 1u);
  ColumnType real = type(Family::kFloat, "real"), twice = type(Family::kFloat, "double precision");
  real.bytes = 4;
  twice.bytes = 8;
  EXPECT_THAT(where("['1e-07', NaN, 0.5, 7, -0.25, '-0', '0.0001', 100000, '1e+06', '3.4028235e+38', '1.6777216e+07']", real), IsEmpty());
  EXPECT_THAT(where("['1e-05', 1000000, '1e+15', 0.1, '5e-324', '9.223372036854776e+18', '123456789012345']", twice), IsEmpty());
  for (const char* value : {"1e-7", "'0.50'", "'7.0'", "'.5'", "'07'", "1e3", "1000000", "0.12345678901", "16777217", "1e+39", "abc"})
    EXPECT_EQ(where(value, real).size(), 1u) << value;
  for (const char* value : {"1e3", "1E+15", "'1e15'", "'1e+06'", "1000000000000000", "0.00001", "1e400"}) EXPECT_EQ(where(value, twice).size(), 1u) << value;
  EXPECT_THAT(where("1e3", twice), ElementsAre("error: where: 'c' is never '1e3': its type is double precision (its values are written as short as they may "
                                               "be, this one '1000'; {gte: ..., lte: ...} compares by value)"));
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

TEST(TypeDoubts, DaysAndSecondsThatAreNone) {
  EXPECT_THAT(where("['2024-02-29', '2000-02-29', '0005-02-29 BC', '4713-01-01 BC', '5874897-12-31']", type(Family::kDate, "date")), IsEmpty());
  for (const char* value : {"2024-02-30", "2023-02-29", "1900-02-29", "2024-13-01", "2024-00-01", "2024-01-00", "0000-01-01", "0004-02-29 BC", "4714-01-01 BC",
                            "foo BC", "5874898-01-01", "02024-01-01"})
    EXPECT_EQ(where(std::string("'") + value + "'", type(Family::kDate, "date")).size(), 1u) << value;
  ColumnType at = type(Family::kTimestamp, "timestamp");
  EXPECT_THAT(where("['2024-02-03T23:59:59.999999', '0044-03-15T10:00:00 BC', '294276-12-31T00:00:00']", at), IsEmpty());
  for (const char* value : {"2024-02-03T24:00:00", "2024-02-03T04:60:00", "2024-02-03T04:05:60", "2024-02-03T04:05:06.7891234", "294277-01-01T00:00:00", "0044-03-15 BC"})
    EXPECT_EQ(where(std::string("'") + value + "'", at).size(), 1u) << value;
  at.scale = 0;
  EXPECT_THAT(where("'2024-02-03T04:05:06'", at), IsEmpty());
  EXPECT_THAT(where("'2024-02-03T04:05:06.5'", at), ElementsAre("error: where: 'c' is never '2024-02-03T04:05:06.5': its type is timestamp (its values are such "
                                                               "as '2024-02-03T04:05:06'; {gte: ..., lt: ...} compares by value)"));
  EXPECT_THAT(where("['0044-03-15T10:00:00Z BC', '2024-02-03T04:05:06.7Z']", type(Family::kTimestampTz, "timestamptz")), IsEmpty());
}

// The one form that jsonb has for a value, and json has not.
TEST(TypeDoubts, BinaryJson) {
  ColumnType json = type(Family::kJson, "json"), jsonb = type(Family::kJson, "jsonb");
  jsonb.is_binary = true;
  for (const char* value : {R"({"a":2,"b":1})", R"({"b":2,"aa":1})", "1.10", "[1,{\"a\":[]}]", R"("\u001f\n\"")", "-1", "0.0", "true", R"("Ã©")"})
    EXPECT_THAT(where(std::string("'") + value + "'", jsonb), IsEmpty()) << value;
  for (const char* value : {R"({"b":1,"a":2})", R"({"aa":1,"b":2})", R"({"a":1,"a":2})", "1e3", "-0", "-0.0", R"("\u0041")", R"("\/")", R"("\u001F")", R"({"x":[1E3]})"}) {
    EXPECT_EQ(where(std::string("'") + value + "'", jsonb).size(), 1u) << value;
    EXPECT_THAT(where(std::string("'") + value + "'", json), IsEmpty()) << value;
  }
  for (const char* value : {"01", "5.", "2024-02-03", "10.0.0.1", "[1,-]"}) EXPECT_EQ(where(std::string("'") + value + "'", json).size(), 1u) << value;
}

TEST(TypeDoubts, Arrays) {
  ColumnType integers = type(Family::kArray, "integer[]");
  integers.element = {type(Family::kInteger, "")};
  integers.element[0].bytes = 4;
  EXPECT_THAT(where("['{1,2}', '{NULL,-7}', '{}', '{{1,2},{3,4}}', '[0:1]={1,2}']", integers), IsEmpty());
  for (const char* value : {"{01}", "{a}", "{null}", "{\"1\"}", "{1, 2}", "{{1},{2,3}}", "{{1},2}", "{1,{2}}", "{2147483648}", "{", "{1}x", "{1,}", "{{}}"})
    EXPECT_EQ(where(std::string("'") + value + "'", integers).size(), 1u) << value;
  ColumnType texts = type(Family::kArray, "text[]");
  texts.element = {type(Family::kText, "")};
  EXPECT_THAT(where(R"(['{a,"b c","","NULL","x,y","q\"r"}', '{null1}'])", texts), IsEmpty());
  for (const char* value : {R"({"a"})", "{a b}", R"({a"b})", "{null}"}) EXPECT_EQ(where(std::string("'") + value + "'", texts).size(), 1u) << value;
  ColumnType flags = type(Family::kArray, "boolean[]");
  flags.element = {type(Family::kBoolean, "")};
  EXPECT_THAT(where("'{t,f,NULL}'", flags), IsEmpty());
  EXPECT_THAT(where("'{true}'", flags), ElementsAre("error: where: 'c' is never '{true}': its type is boolean[] (its values are arrays, such as '{t,f}' or '{NULL}')"));
  ColumnType moments = type(Family::kArray, "timestamptz[]");
  moments.element = {type(Family::kTimestampTz, "")};
  EXPECT_THAT(where(R"('{"2024-02-03 04:05:06+00"}')", moments), IsEmpty());
}

// Comparisons that leave nothing of what the type can hold.
TEST(TypeDoubts, ComparisonsThatNothingPasses) {
  ColumnType small = type(Family::kInteger, "smallint");
  small.bytes = 2;
  EXPECT_THAT(where("{gt: 40000}", small), ElementsAre("error: where: 'c' has no value that passes {gt: 40000}: its type is smallint (compare it with what the type can hold)"));
  for (const char* none : {"{gte: 32768}", "{lt: -32768}", "{gt: 1, lt: 2}", "{gt: 1.2, lt: 1.8}", "{gte: 6, lte: 7, not: [6, 7]}", "{gt: 1e3, lt: 1001}"})
    EXPECT_EQ(where(none, small).size(), 1u) << none;
  for (const char* some : {"{gt: 32766}", "{lte: -32768}", "{gt: 1, lt: 2.5}", "{lt: 40000}", "{gte: 6, lte: 8, not: [6, 7]}", "{not: [1, 2]}"})
    EXPECT_THAT(where(some, small), IsEmpty()) << some;
  ColumnType big = type(Family::kInteger, "bigint");
  big.bytes = 8;
  EXPECT_THAT(where("{gt: 9223372036854775806}", big), IsEmpty());
  EXPECT_THAT(where("{gte: -9223372036854775808, lt: -9223372036854775807}", big), IsEmpty());
  EXPECT_EQ(where("{gt: 9223372036854775807}", big).size(), 1u);
  ColumnType price = type(Family::kNumeric, "numeric(4,2)");
  price.digits = 4;
  price.scale = 2;
  EXPECT_THAT(where("{gt: 99.98}", price), IsEmpty());
  EXPECT_THAT(where("{gt: 99.99}", price), ElementsAre("warning: where: 'c' passes {gt: 99.99} with no value but NaN: its type is numeric(4,2) (compare it with what "
                                                       "the type can hold)"));
  EXPECT_EQ(where("{gt: 1.001, lt: 1.009}", price).at(0).substr(0, 6), "error:");
  const ColumnType day = type(Family::kDate, "date");
  EXPECT_EQ(where("{gt: '2024-02-28', lt: '2024-02-29'}", day).size(), 1u);
  EXPECT_EQ(where("{gt: '2024-02-03T01:00:00', lt: '2024-02-03T23:00:00'}", day).size(), 1u);
  EXPECT_THAT(where("{gt: '2024-02-28', lt: '2024-03-01'}", day), IsEmpty());
  EXPECT_THAT(where("{gt: '20000-01-01'}", day), IsEmpty());
  EXPECT_THAT(where("{gt: 1, lt: 2}", type(Family::kFloat, "real")), IsEmpty());
  EXPECT_THAT(where("{gt: 1, lt: 2}", type(Family::kNumeric, "numeric")), IsEmpty());
  EXPECT_EQ(where("{crosses: 40000}", small).at(0).substr(0, 8), "warning:");
  small.is_nullable = false;
  EXPECT_EQ(where("{crosses: 40000}", small).at(0).substr(0, 6), "error:");
  EXPECT_THAT(where("{crosses: 32767}", small), IsEmpty());
}

TEST(TypeDoubts, NullOfAColumnThatHasNone) {
  ColumnType text = type(Family::kText, "text");
  EXPECT_THAT(where("null", text), IsEmpty());
  text.is_nullable = false;
  EXPECT_THAT(where("null", text), ElementsAre("error: where: 'c' is never NULL: its type is text (the column is NOT NULL: leave null out)"));
  EXPECT_EQ(where("[null, a]", text).at(0).substr(0, 8), "warning:");
  EXPECT_THAT(where("{not: [a, null]}", text), IsEmpty());
}

TEST(TypeDoubts, NotThatLeavesNothing) {
  ColumnType boolean = type(Family::kBoolean, "boolean");
  EXPECT_THAT(where("{not: [true, false]}", boolean), IsEmpty());  // NULL is left
  EXPECT_THAT(where("{not: [true, false, null]}", boolean), ElementsAre("error: where: 'c' has no value that 'not' leaves: its type is boolean (leave the "
                                                                       "condition out, or one of its values)"));
  boolean.is_nullable = false;
  EXPECT_EQ(where("{not: [true, false]}", boolean).size(), 1u);
  ColumnType state = type(Family::kEnum, "state");
  state.labels = {"draft", "live"};
  state.is_nullable = false;
  EXPECT_EQ(where("{not: [live, draft]}", state).size(), 1u);
  EXPECT_THAT(where("{not: [live]}", state), IsEmpty());
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
  EXPECT_EQ(where("'a=>1'", type(Family::kForeign, "hstore")).at(0).substr(0, 8), "warning:");
  EXPECT_THAT(where("\"'a'\"", type(Family::kOther, "tsvector")), ElementsAre(::testing::HasSubstr("SELECT CAST('''a''' AS tsvector);")));
}

TEST(TypeDoubts, TypesWithATextOfTheirOwn) {
  const ColumnType inet = type(Family::kInet, "inet"), cidr = type(Family::kCidr, "cidr");
  EXPECT_THAT(where("['10.0.0.1', '10.0.0.1/8', '::1', 'fe80::/10', '::ffff:1.2.3.4']", inet), IsEmpty());
  EXPECT_EQ(where("['10.0.0.1/32', '10.0.0.01', '10.1', '::1/128', 'FE80::1', 'fe80:0:0:0:0:0:0:1', localhost, '']", inet).size(), 8u);
  EXPECT_THAT(where("['10.0.0.0/8', '10.0.0.1/32', '::/0']", cidr), IsEmpty());
  EXPECT_EQ(where("['10.0.0.0', '10.0.0.0/33', '10.0.0.0/08', '10.0.0.1/8', '10.1.0.0/15', 'fe80::1/10']", cidr).size(), 6u);
  ColumnType time = type(Family::kTime, "time without time zone");
  EXPECT_THAT(where("['09:00:00', '24:00:00', '09:00:00.5', '09:00:00.123456']", time), IsEmpty());
  EXPECT_THAT(where("['9:00']", time),
              ElementsAre("error: where: 'c' is never '9:00': its type is time without time zone (its values are such as '09:00:00' or '09:00:00.5')"));
  EXPECT_EQ(where("['09:00', '09:00:00.50', '09:00:00+00', noon, '25:00:00', '24:00:01', '09:60:00', '09:00:60']", time).size(), 8u);
  time.has_zone = true;
  EXPECT_THAT(where("['09:00:00+00', '09:00:00.5-03:30']", time), IsEmpty());
  EXPECT_EQ(where("['09:00:00', '09:00:00Z', '09:00:00+0', '09:00:00+00:00', '09:00:00+16', '09:00:00-00', '09:00:00+01:99']", time).size(), 7u);
  time.scale = 0;
  EXPECT_EQ(where("['09:00:00.5+00']", time).size(), 1u);
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

TEST(TypeDoubts, AVersionIsAWholeNumberOrATimestamp) {
  const auto version = [](const ColumnType& of) { return doubts("keys: [\"k:{id}\"], fill: checked, version: {column: c}", of); };
  ColumnType whole = type(Family::kNumeric, "numeric(20,0)");
  whole.digits = 20;
  whole.scale = 0;
  for (const ColumnType& of : {type(Family::kInteger, "bigint"), type(Family::kTimestamp, "timestamp"), type(Family::kTimestampTz, "timestamptz"), whole}) {
    EXPECT_THAT(version(of), IsEmpty()) << of.name;
  }
  EXPECT_THAT(version(type(Family::kUuid, "uuid")).at(0), testing::StartsWith("warning: version: 'c' is a row's version only where its text is a whole number or a "
                                                                              "timestamp: its type is uuid (name a column of type bigint or timestamptz "));
  for (const Family family : {Family::kText, Family::kBoolean, Family::kNumeric, Family::kFloat, Family::kDate, Family::kJson, Family::kArray}) {
    EXPECT_EQ(version(type(family, "x")).size(), 1u);
  }
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
  // What an extension prints may be JSON; a composite type or a range never is.
  for (const char* text : {"k:{c.a}", "k:{c.*}", "k:{c|date('%Y')}"}) {
    EXPECT_EQ(key(text, type(Family::kForeign, "hstore")).at(0).substr(0, 8), "warning:") << text;
    EXPECT_EQ(key(text, type(Family::kOther, "address")).at(0).substr(0, 6), "error:") << text;
  }
  ColumnType list = type(Family::kArray, "integer[]");
  list.element = {type(Family::kInteger, "")};
  EXPECT_THAT(key("k:{c.*}", list), IsEmpty());
  EXPECT_EQ(key("k:{c.*.x}", list).at(0).substr(0, 6), "error:");
  EXPECT_EQ(key("k:{c.*|date('%Y')}", list).at(0).substr(0, 6), "error:");
  list.element = {type(Family::kText, "")};
  EXPECT_EQ(key("k:{c.*.x}", list).at(0).substr(0, 8), "warning:");
  list.element = {type(Family::kDate, "")};
  EXPECT_THAT(key("k:{c.*|date('%Y')}", list), IsEmpty());
}

}  // namespace
}  // namespace evictd
