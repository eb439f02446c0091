#include "daemon/sources/postgres/table_tree.h"

#include "tests/unit/sources/postgres/source_fixture.h"

namespace evictd::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class PostgresTableTreeTest : public SourceTest {
 protected:
  Result<TableTree> tree(const std::vector<std::string>& tables) {
    auto conninfo = Conninfo::parse(server->url(database));
    conninfo->pin_session("evictd tables", "");
    return ask_table_tree(*conninfo, "dbz_publication")(tables);
  }
};

TEST_F(PostgresTableTreeTest, ChildrenAndPartitionsLieBelowWhatRulesName) {
  sql->run(
      "create table a (id int primary key); create table \"b'b\" (id int primary key);"
      "create table c (primary key (id)) inherits (a, \"b'b\"); create table d (primary key (id)) inherits (c);"
      "create table p (id int primary key) partition by range (id);"
      "create table p1 partition of p for values from (0) to (10) partition by range (id); create table other (id int)");
  const auto found = tree({"public.a", "public.b'b", "public.p", "public.other", "public.none"});
  ASSERT_TRUE(found) << found.error().text;
  const TableName a{"public", "a"}, b{"public", "b'b"}, p{"public", "p"};
  EXPECT_EQ(found->above, (std::map<std::string, std::vector<TableName>>{
                              {"public.c", {a, b}}, {"public.d", {a, b}}, {"public.p1", {p}}}));
  EXPECT_THAT(found->filtered, IsEmpty());
  EXPECT_THAT(found->children, ElementsAre("public.c", "public.d"));
  EXPECT_THAT(found->partitioned, ElementsAre("public.p1"));
}

TEST_F(PostgresTableTreeTest, RowFiltersOfThePublication) {
  if (std::stoi(sql->value("show server_version_num")) < 150000) GTEST_SKIP() << "row filters came with PostgreSQL 15";
  sql->run(
      "create table a (id int primary key); create table b (id int primary key); create table c (id int primary key);"
      "create publication dbz_publication for table a where (id > 5), b; create publication other for table c where (id > 5)");
  const auto found = tree({"public.a", "public.b", "public.c"});
  ASSERT_TRUE(found) << found.error().text;
  EXPECT_THAT(found->filtered, ElementsAre("public.a"));
}

}  // namespace
}  // namespace evictd::testing
