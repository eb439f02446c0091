// What lies below the tables that rules name: partitions and INHERITS children, whom their rows are told for, whether
// the publication holds them, and what cannot be followed.
#include <poll.h>

#include "tests/unit/sources/postgres/source_fixture.h"

namespace evictd::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class PostgresMembersTest : public SourceTest {
 protected:
  PostgresOptions watchful() const {
    PostgresOptions result = options();
    result.watch_interval = std::chrono::milliseconds(100);
    return result;
  }
  void follow(const std::vector<std::string>& tables) {
    make(tables, watchful());
    driver->start();
    ASSERT_TRUE(driver->until_connected()) << explain();
  }
};

TEST_F(PostgresMembersTest, AChildOfTwoParentsActsForBoth) {
  sql->run(
      "create table a (id int primary key); create table b (id int primary key);"
      "create table c (primary key (id)) inherits (a, b)");
  stream({"public.a", "public.b"});
  sql->run("insert into c values (1); insert into a values (2)");
  ASSERT_TRUE(driver->until_changes(2)) << explain();
  EXPECT_THAT(journal().all_changes(),
              ElementsAre("insert public.a+public.b new(id=1)", "insert public.a new(id=2)"));
}

TEST_F(PostgresMembersTest, APartitionThatRulesNameActsForItsRootToo) {
  sql->run(
      "create table ev (id int primary key) partition by range (id);"
      "create table ev1 partition of ev for values from (0) to (10) partition by range (id);"
      "create table ev11 partition of ev1 for values from (0) to (10);"
      "create table ev2 partition of ev for values from (10) to (20)");
  stream({"public.ev", "public.ev1", "public.ev11"});
  sql->run("insert into ev values (1), (11)");
  ASSERT_TRUE(driver->until_changes(2)) << explain();
  EXPECT_THAT(journal().all_changes(),
              ElementsAre("insert public.ev11+public.ev+public.ev1 new(id=1)", "insert public.ev new(id=11)"));
}

TEST_F(PostgresMembersTest, AChildMadeLaterActsForAllItsTablesFromItsFirstRow) {
  sql->run("create table ev (id int primary key) partition by range (id);"
           "create table ev1 partition of ev for values from (0) to (10) partition by range (id)");
  stream({"public.ev", "public.ev1"});
  sql->run("create table ev11 partition of ev1 for values from (0) to (10); insert into ev values (1)");
  ASSERT_TRUE(driver->until_changes(1)) << explain();
  EXPECT_THAT(journal().all_changes(), ElementsAre("insert public.ev1+public.ev new(id=1)"));
}

}  // namespace
}  // namespace evictd::testing
