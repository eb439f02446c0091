// A connection to a server by name, with resolvers that are slow, wrong or of many answers.
#include "daemon/sources/postgres/connection.h"

#include <gmock/gmock.h>

#include <future>

#include "tests/unit/sources/postgres/source_fixture.h"

namespace evictd::testing {
namespace {

using State = PostgresConnection::State;
using ::testing::HasSubstr;
using Addresses = std::vector<std::string>;

class PostgresConnectionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string why;
    server_ = shared_server(why);
    EVICTD_NEEDS_POSTGRES(server_, why);
  }
  Conninfo to(const std::string& hosts) const {
    auto conninfo = Conninfo::parse(server_->url("postgres", "postgres"));
    EXPECT_TRUE(conninfo.has_value());
    conninfo->set("host", hosts);
    return *conninfo;
  }
  // Turns as the loop does until the connection is made or lost.
  static State finish(PostgresConnection& connection) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (connection.state() == State::kConnecting && std::chrono::steady_clock::now() < deadline) {
      Waiting waiting;
      connection.wait_for(waiting, true);
      EXPECT_FALSE(waiting.descriptors.empty() && waiting.deadline == SteadyTime::max()) << "waits for nothing";
      ::poll(waiting.descriptors.data(), waiting.descriptors.size(), waiting.deadline == SteadyTime::min() ? 0 : 50);
      connection.step(read_clocks());
    }
    return connection.state();
  }
  static NameLookup::Resolver answers(std::map<std::string, Addresses> known) {
    return [known](const std::string& host) -> Result<Addresses> {
      const auto found = known.find(host);
      if (found == known.end()) return fail(ErrorKind::kConnection, "nobody knows it");
      return found->second;
    };
  }

  PostgresServer* server_ = nullptr;
};

TEST_F(PostgresConnectionTest, AResolverThatHangsDoesNotStopTheLoop) {
  std::promise<void> answer;
  PostgresConnection connection([waits = answer.get_future().share()](const std::string&) -> Result<Addresses> {
    waits.wait();
    return Addresses{"127.0.0.1"};
  });
  // The test would hang here, and for ever, if the lookup ran on this thread.
  connection.open(to("db.example"), read_clocks());
  for (int turn = 0; turn < 100; ++turn) connection.step(read_clocks());
  EXPECT_EQ(connection.state(), State::kConnecting);
  answer.set_value();
  ASSERT_EQ(finish(connection), State::kIdle) << connection.failure()->text;
  // Certificates are compared with the name.
  Conninfo pinned;
  connection.pin_server(pinned);
  EXPECT_EQ(pinned.get("host"), "db.example");
  EXPECT_EQ(pinned.get("hostaddr"), "127.0.0.1");
}

TEST_F(PostgresConnectionTest, AResolverThatHangsIsGivenUp) {
  std::promise<void> answer;
  PostgresConnection connection([waits = answer.get_future().share()](const std::string&) -> Result<Addresses> {
    waits.wait();
    return Addresses{"127.0.0.1"};
  });
  Now now = read_clocks();
  connection.open(to("db.example"), now);
  now.steady += std::chrono::seconds(11);
  connection.step(now);
  ASSERT_EQ(connection.state(), State::kClosed);
  EXPECT_EQ(connection.failure()->text, "no answer about the name 'db.example' in time");
  // The next attempt is a new one, whatever becomes of the old thread.
  connection.open(to("127.0.0.1"), read_clocks());
  EXPECT_EQ(finish(connection), State::kIdle);
  answer.set_value();
}

TEST_F(PostgresConnectionTest, EveryAddressOfANameIsTried) {
  // Nobody listens on the first one.
  PostgresConnection connection(answers({{"db.example", {"127.0.0.99", "127.0.0.1"}}}));
  connection.open(to("db.example"), read_clocks());
  ASSERT_EQ(finish(connection), State::kIdle) << connection.failure()->text;
}

TEST_F(PostgresConnectionTest, AHostThatIsNotFoundIsPassedOver) {
  PostgresConnection connection(answers({{"second.example", {"127.0.0.1"}}}));
  connection.open(to("first.example,second.example"), read_clocks());
  ASSERT_EQ(finish(connection), State::kIdle) << connection.failure()->text;
  connection.open(to("first.example"), read_clocks());
  ASSERT_EQ(finish(connection), State::kClosed);
  EXPECT_EQ(connection.failure()->text, "cannot look up 'first.example': nobody knows it");
}

TEST_F(PostgresConnectionTest, TheSystemsResolverIsTheDefault) {
  PostgresConnection connection;
  connection.open(to("no-such-host.invalid"), read_clocks());
  ASSERT_EQ(finish(connection), State::kClosed);
  EXPECT_THAT(connection.failure()->text, HasSubstr("cannot look up 'no-such-host.invalid': "));
}

}  // namespace
}  // namespace evictd::testing
