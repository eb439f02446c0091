// What is left of a blocking connection after its first failure: nothing, for whoever asks on.
#include "daemon/sinks/redis/blocking_client.h"

#include "tests/unit/sinks/redis/sink_fixture.h"

namespace evictd::testing {
namespace {

TEST(BlockingClient, AnswersOnlyWithItsErrorOnceItsConnectionWasClosed) {
  const RedisServer server;
  const auto client = BlockingClient::open(options_for(server));
  const auto other = BlockingClient::open(options_for(server));
  ASSERT_TRUE(client && other);
  ASSERT_TRUE((*other)->command({"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"}));
  const Result<Reply> lost = (*client)->command({"PING"});
  ASSERT_FALSE(lost);
  // As one does who takes leases back when a fill has failed.
  for (int i = 0; i < 3; ++i) {
    const Result<Reply> again = (*client)->command({"PING"});
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().text, lost.error().text);
  }
  EXPECT_TRUE((*other)->command({"PING"}));
}

TEST(BlockingClient, NeverTakesALateReplyForThatOfTheNextCommand) {
  const RedisServer server;
  RedisOptions options = options_for(server);
  options.command_timeout = std::chrono::milliseconds(50);
  const auto client = BlockingClient::open(options);
  ASSERT_TRUE(client);
  const Result<Reply> late = (*client)->command({"BLPOP", "nothing", "60"});
  ASSERT_FALSE(late);
  const auto other = BlockingClient::open(options_for(server));
  ASSERT_TRUE(other && (*other)->command({"RPUSH", "nothing", "late"}));
  const Result<Reply> next = (*client)->command({"GET", "key"});
  ASSERT_FALSE(next);
  EXPECT_EQ(next.error().text, late.error().text);
}

}  // namespace
}  // namespace evictd::testing
