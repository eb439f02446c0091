// Where the master is by the word of Sentinels: the decisions alone, and with real ones.
#include <gmock/gmock.h>

#include <set>

#include "daemon/sinks/redis/blocking_client.h"
#include "daemon/sinks/redis/doctor/check.h"
#include "daemon/sinks/redis/topology/sentinel.h"
#include "mapping/rules.h"
#include "tests/unit/sinks/redis/sink_fixture.h"

namespace evictd::testing {
namespace {

using ::testing::HasSubstr;
using Next = MasterQuest::Next;

Reply text(std::string value) {
  Reply reply;
  reply.kind = Reply::Kind::kText;
  reply.text = std::move(value);
  return reply;
}
Reply texts(std::initializer_list<std::string> values) {
  Reply reply;
  reply.kind = Reply::Kind::kArray;
  for (const std::string& value : values) reply.elements.push_back(text(value));
  return reply;
}
Reply error(std::string value) {
  Reply reply = text(std::move(value));
  reply.kind = Reply::Kind::kError;
  return reply;
}
SentinelAnswer answer(std::string host, std::uint64_t epoch) { return {HostPort{std::move(host), 6379}, epoch}; }

TEST(Sentinel, AddressesOfSentinels) {
  EXPECT_EQ(parse_host_port("s1:26380", kSentinelPort), (HostPort{"s1", 26380}));
  EXPECT_EQ(parse_host_port("s1", kSentinelPort), (HostPort{"s1", 26379}));
  EXPECT_EQ(parse_host_port("[::1]:1", kSentinelPort), (HostPort{"::1", 1}));
  EXPECT_EQ(parse_host_port("[::1]", kSentinelPort)->to_string(), "[::1]:26379");
  for (const char* wrong : {"", ":1", "s1:", "s1:0", "s1:65536", "s1:x", "[::1", "[::1]1", "redis://s1", "u@s1:1", "s1:1:2"}) {
    EXPECT_FALSE(parse_host_port(wrong, kSentinelPort)) << wrong;
  }
}

TEST(Sentinel, AnswersOfTheRightShapeOnly) {
  const auto read = read_sentinel_answer(texts({"10.0.0.1", "6379"}), texts({"name", "m", "config-epoch", "7"}));
  ASSERT_TRUE(read);
  EXPECT_EQ(read->master, (HostPort{"10.0.0.1", 6379}));
  EXPECT_EQ(read->epoch, 7u);
  const auto unknown = read_sentinel_answer(Reply{}, error("ERR No such master with that name"));
  ASSERT_TRUE(unknown);
  EXPECT_FALSE(unknown->master);
  EXPECT_FALSE(read_sentinel_answer(Reply{}, texts({"config-epoch", "7"})));
  EXPECT_FALSE(read_sentinel_answer(error("ERR unknown command 'SENTINEL'"), error("ERR unknown command 'SENTINEL'")));
  EXPECT_FALSE(read_sentinel_answer(texts({"10.0.0.1", "0"}), texts({"config-epoch", "7"})));
  EXPECT_FALSE(read_sentinel_answer(texts({"10.0.0.1"}), texts({"config-epoch", "7"})));
  EXPECT_FALSE(read_sentinel_answer(texts({"10.0.0.1", "1"}), texts({"config-epoch"})));
  EXPECT_FALSE(read_sentinel_answer(texts({"10.0.0.1", "1"}), texts({"config-epoch", "-1"})));
  EXPECT_FALSE(read_sentinel_answer(texts({"10.0.0.1", "1"}), texts({"name", "m"})));
}

TEST(Sentinel, TheyAreAskedInTurnAndWhoAnsweredComesFirst) {
  MasterQuest quest("m", {{"a", 1}, {"b", 2}, {"c", 3}});
  quest.begin();
  EXPECT_EQ(quest.asked().host, "a");
  EXPECT_EQ(quest.failed("cannot be asked"), Next::kAskNext);
  EXPECT_EQ(quest.asked().host, "b");
  EXPECT_EQ(quest.answered(answer("x", 3)), Next::kFound);
  EXPECT_EQ(quest.master().host, "x");
  quest.begin();
  EXPECT_EQ(quest.asked().host, "b");
  EXPECT_EQ(quest.failed("is away"), Next::kAskNext);
  EXPECT_EQ(quest.asked().host, "a");
}

TEST(Sentinel, OneWhoseWordIsDoubtedIsAskedAfterTheOthers) {
  MasterQuest quest("m", {{"a", 1}, {"b", 2}, {"c", 3}});
  quest.begin();
  EXPECT_EQ(quest.answered(answer("no master", 0)), Next::kFound);
  quest.ask_others_first();
  quest.begin();
  EXPECT_EQ(quest.asked().host, "b");
  EXPECT_EQ(quest.answered(answer("x", 0)), Next::kFound);
  quest.ask_others_first();
  quest.begin();
  EXPECT_EQ(quest.asked().host, "c");
}

TEST(Sentinel, WhatOneTellsIsConfirmedByAnother) {
  MasterQuest quest("m", {{"a", 1}, {"b", 2}, {"c", 3}});
  quest.begin();
  EXPECT_EQ(quest.answered(answer("x", 3)), Next::kFound);
  quest.begin_confirm();
  EXPECT_EQ(quest.asked().host, "b");
  EXPECT_EQ(quest.answered(answer("old", 2)), Next::kAskNext);
  EXPECT_EQ(quest.asked().host, "c");
  EXPECT_EQ(quest.answered(answer("another", 3)), Next::kAskNext) << "no failover made it so";
  EXPECT_EQ(quest.asked().host, "a");
  EXPECT_EQ(quest.answered(answer("x", 3)), Next::kFound);
  EXPECT_EQ(quest.master().host, "x");
  // The one that told it was cut off.
  quest.begin_confirm();
  EXPECT_EQ(quest.answered(answer("new", 4)), Next::kFound);
  EXPECT_EQ(quest.master().host, "new");
}

// Set up by mistake: no failover made it so, and its server may call itself master.
TEST(Sentinel, OneAgainstMoreThanHalfOfThemIsNotBelieved) {
  MasterQuest quest("m", {{"a", 1}, {"b", 2}, {"c", 3}});
  quest.begin();
  EXPECT_EQ(quest.answered(answer("another", 0)), Next::kFound);
  quest.begin_confirm();
  EXPECT_EQ(quest.answered(answer("x", 0)), Next::kAskNext) << "one of three, as the first";
  EXPECT_EQ(quest.answered(answer("x", 0)), Next::kFound);
  EXPECT_EQ(quest.master().host, "x");
  quest.begin_confirm();
  EXPECT_EQ(quest.answered(answer("another", 0)), Next::kAskNext);
  EXPECT_EQ(quest.answered(answer("x", 0)), Next::kFound);
  EXPECT_EQ(quest.master().host, "x");
}

TEST(Sentinel, WhenNobodyKnowsEachSaysWhy) {
  MasterQuest quest("m", {{"a", 1}, {"b", 2}});
  quest.begin();
  quest.failed("did not answer within 500ms");
  EXPECT_EQ(quest.answered(SentinelAnswer{}), Next::kNobodyKnows);
  EXPECT_THAT(quest.error().text, HasSubstr("'a:1' did not answer within 500ms; 'b:2' does not know a master 'm'"));
}

TEST(Sentinel, AnAnswerFromBeforeTheLastFailoverIsPassedOver) {
  MasterQuest quest("m", {{"a", 1}, {"b", 2}});
  quest.begin();
  EXPECT_EQ(quest.answered(answer("new", 8)), Next::kFound);
  quest.begin();
  EXPECT_EQ(quest.answered(answer("old", 7)), Next::kAskNext);
  EXPECT_EQ(quest.answered(answer("newer", 9)), Next::kFound);
  EXPECT_EQ(quest.master().host, "newer");
}

TEST(Sentinel, WhenAllOfThemCountAnewTheBestOfThemIsBelieved) {
  MasterQuest quest("m", {{"a", 1}, {"b", 2}, {"c", 3}});
  quest.begin();
  EXPECT_EQ(quest.answered(answer("old", 8)), Next::kFound);
  quest.begin();
  EXPECT_EQ(quest.answered(answer("x", 0)), Next::kAskNext);
  EXPECT_EQ(quest.answered(answer("y", 1)), Next::kAskNext);
  EXPECT_EQ(quest.failed("is away"), Next::kFound);
  EXPECT_EQ(quest.master().host, "y");
  quest.begin();
  EXPECT_EQ(quest.answered(answer("y", 1)), Next::kFound);
}

TEST(Sentinel, OnlyALaterFailoverMovesTheMaster) {
  MasterQuest quest("m", {{"a", 1}, {"b", 2}});
  quest.begin();
  quest.answered(answer("x", 3));
  quest.begin_watch();
  EXPECT_FALSE(quest.is_moved_by(answer("x", 3)));
  EXPECT_FALSE(quest.is_moved_by(answer("y", 3))) << "knows another master, and no failover";
  EXPECT_FALSE(quest.is_moved_by(answer("y", 2)));
  EXPECT_FALSE(quest.is_moved_by(SentinelAnswer{}));
  EXPECT_FALSE(quest.is_moved_by(answer("x", 4))) << "back to where it was";
  EXPECT_TRUE(quest.is_moved_by(answer("y", 5)));
  EXPECT_EQ(quest.master().host, "y");
}

// SENTINEL REMOVE and MONITOR: they count failovers from the beginning.
TEST(Sentinel, AServerThatMoreThanHalfOfThemNameByHandIsTheMaster) {
  MasterQuest quest("m", {{"a", 1}, {"b", 2}, {"c", 3}});
  quest.begin();
  ASSERT_EQ(quest.answered(answer("x", 3)), Next::kFound);
  quest.begin_watch();
  const auto watched = [&](const SentinelAnswer& what) {
    const bool is_moved = quest.is_moved_by(what);
    quest.ask_another();
    return is_moved;
  };
  EXPECT_FALSE(watched(answer("y", 0))) << "one of three may be cut off";
  EXPECT_FALSE(watched(answer("x", 3)));
  EXPECT_FALSE(watched(answer("y", 0))) << "one of them still names ours";
  EXPECT_FALSE(watched(SentinelAnswer{}));
  quest.heard_nothing("did not answer within 500ms");
  quest.ask_another();
  EXPECT_FALSE(watched(answer("y", 0))) << "the same one, again";
  EXPECT_TRUE(watched(answer("y", 0)));
  EXPECT_EQ(quest.master().host, "y");
  quest.begin();
  EXPECT_EQ(quest.answered(answer("y", 0)), Next::kFound);
}

TEST(Sentinel, NobodyTellsAnyMoreOnceEachOfThemIsSilent) {
  MasterQuest quest("m", {{"a", 1}, {"b", 2}});
  quest.begin();
  quest.answered(answer("x", 3));
  quest.begin_watch();
  quest.heard_nothing("did not answer within 500ms");
  quest.ask_another();
  EXPECT_FALSE(quest.silence()) << "the other one was not asked yet";
  quest.is_moved_by(SentinelAnswer{});
  quest.ask_another();
  ASSERT_TRUE(quest.silence());
  EXPECT_EQ(quest.silence()->text,
            "no sentinel tells any more whether 'x:6379' is the master 'm'; deletes go on there: 'a:1' did not answer within 500ms; 'b:2' does not know a master 'm'");
  quest.is_moved_by(answer("x", 3));
  EXPECT_FALSE(quest.silence());
}

// ---- With real ones: a master, a replica, three Sentinels.

class SentinelSink : public ::testing::Test {
 protected:
  void SetUp() override {
    EVICTD_NEED_REDIS();
    servers_.push_back(std::make_unique<RedisServer>());
    servers_.push_back(std::make_unique<RedisServer>(std::vector<std::string>{"--replicaof", "127.0.0.1 " + std::to_string(servers_[0]->port())}));
    until([&] { return info(*servers_[1], "master_link_status") == "up"; });
    const std::string file = "sentinel monitor mymaster 127.0.0.1 " + std::to_string(servers_[0]->port()) +
                             " 2\nsentinel down-after-milliseconds mymaster 800\nsentinel failover-timeout mymaster 5000\nrequirepass secret\n";
    for (int i = 0; i < 3; ++i) {
      sentinels_.push_back(std::make_unique<RedisServer>(std::vector<std::string>{"--sentinel"}, file));
      sentinels_.back()->client().command({"AUTH", "secret"});
    }
    for (const auto& sentinel : sentinels_) {
      until([&] {
        const auto fields = master_of(*sentinel);
        return fields.contains({"num-other-sentinels", "2"}) && fields.contains({"num-slaves", "1"});
      });
    }
  }

  static void until(const std::function<bool()>& condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!condition()) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline);
      ::poll(nullptr, 0, 20);
    }
  }
  // By a connection of its own: a promotion ends those that there are.
  static Reply ask(RedisServer& server, std::initializer_list<std::string_view> arguments) {
    return RedisClient(server.port()).command(arguments);
  }
  static bool exists(RedisServer& server, std::string_view key) { return ask(server, {"EXISTS", key}).integer == 1; }
  static std::string info(RedisServer& server, const std::string& name) {
    const std::string all = ask(server, {"INFO", "all"}).text;
    const std::size_t at = all.find("\n" + name + ":");
    if (at == std::string::npos) return {};
    const std::size_t begin = at + name.size() + 2;
    return all.substr(begin, all.find_first_of("\r\n", begin) - begin);
  }
  static std::set<std::pair<std::string, std::string>> master_of(RedisServer& sentinel) {
    const Reply reply = sentinel.client().command({"SENTINEL", "MASTER", "mymaster"});
    std::set<std::pair<std::string, std::string>> fields;
    for (std::size_t i = 0; i + 1 < reply.elements.size(); i += 2) fields.emplace(reply.elements[i].text, reply.elements[i + 1].text);
    return fields;
  }
  // By the word of every Sentinel.
  bool is_promoted() {
    for (const auto& sentinel : sentinels_) {
      if (!master_of(*sentinel).contains({"port", std::to_string(servers_[1]->port())})) return false;
    }
    return true;
  }
  RedisOptions options() {
    RedisOptions made = options_for(*servers_[0]);
    made.url = "redis://mymaster/0";
    made.sentinel_password = "secret";
    made.sentinels.push_back({"127.0.0.1", static_cast<std::uint16_t>(free_port())});  // nobody is there
    for (const auto& sentinel : sentinels_) made.sentinels.push_back({"127.0.0.1", static_cast<std::uint16_t>(sentinel->port())});
    made.connect_timeout = made.command_timeout = std::chrono::milliseconds(1000);
    return made;
  }
  static OrderBuilder key(const char* name, std::uint64_t xid) { return OrderBuilder(Act::kInvalidate).trusting().key(name, {xid}); }

  std::vector<std::unique_ptr<RedisServer>> servers_;  // the master, the replica
  std::vector<std::unique_ptr<RedisServer>> sentinels_;
};

TEST_F(SentinelSink, FollowsTheMasterAndTellsThatItLacksTheLastRecord) {
  DrivenSink driven(options());
  ASSERT_TRUE(driven.until_connected());
  const std::string first = driven.journal().last_connected.instance;
  EXPECT_EQ(first, info(*servers_[0], "run_id"));
  Record record;
  record.epoch = "e/1";
  record.sequence = 1;
  driven.sink().save_record(record);
  ASSERT_TRUE(driven.until([&] { return driven.journal().records_saved.size() == 1; }));
  until([&] { return exists(*servers_[1], "evictd:record:evictd"); });
  // From here on the replica gets nothing more.
  ask(*servers_[1], {"CONFIG", "SET", "masteruser", "nobody"});
  ask(*servers_[1], {"CONFIG", "SET", "masterauth", "wrong"});
  ask(*servers_[0], {"CLIENT", "KILL", "TYPE", "replica"});
  until([&] { return info(*servers_[1], "master_link_status") == "down"; });
  record.sequence = 2;
  driven.sink().save_record(record);
  ASSERT_TRUE(driven.until([&] { return driven.journal().records_saved.size() == 2; }));
  servers_[0]->kill();
  ASSERT_TRUE(driven.until([&] { return driven.journal().connects == 2; }, std::chrono::seconds(90)));
  EXPECT_EQ(driven.journal().last_connected.instance, info(*servers_[1], "run_id"));
  ASSERT_TRUE(driven.journal().last_connected.record);
  EXPECT_EQ(driven.journal().last_connected.record->sequence, 1u);
  driven.run(key("k", 10));
  EXPECT_TRUE(exists(*servers_[1], "evictd:{k}"));
}

TEST_F(SentinelSink, LeavesAMasterThatWasReplacedThoughItStillAnswers) {
  RedisOptions patient = options();
  patient.command_timeout = std::chrono::seconds(60);
  DrivenSink driven(patient);
  ASSERT_TRUE(driven.until_connected());
  driven.run(key("k", 10));
  servers_[0]->freeze();
  ASSERT_TRUE(driven.until([&] { return driven.journal().connects == 2; }, std::chrono::seconds(90)));
  EXPECT_THAT(driven.journal().last_error.to_string(), HasSubstr("the Sentinels have made"));
  EXPECT_EQ(driven.journal().last_connected.instance, info(*servers_[1], "run_id"));
  servers_[0]->thaw();
  const std::string calls = info(*servers_[0], "cmdstat_evalsha");
  for (std::uint64_t i = 0; i < 20; ++i) driven.run(key("k", 20 + i));
  EXPECT_EQ(info(*servers_[0], "cmdstat_evalsha"), calls) << "nothing more was asked of the old master";
}

// Connected to while it stood still: it calls itself master when it goes on.
TEST_F(SentinelSink, AMasterThatComesBackAfterItWasReplacedIsNotWrittenTo) {
  RedisOptions patient = options();
  patient.command_timeout = std::chrono::seconds(60);
  servers_[0]->freeze();
  DrivenSink driven(patient);
  ASSERT_TRUE(driven.until([&] { return driven.sink().status().state == "naming"; }));
  until([&] { return is_promoted(); });
  servers_[0]->thaw();
  ASSERT_TRUE(driven.until_connected());
  EXPECT_EQ(driven.journal().connects, 1);
  EXPECT_EQ(driven.journal().last_connected.instance, info(*servers_[1], "run_id"));
  driven.run(key("k", 10));
  EXPECT_EQ(info(*servers_[0], "cmdstat_evalsha"), "");
}

// options() names one that is away first.
TEST_F(SentinelSink, ABlockingCallerIsToldByThoseBehindOneThatIsAway) {
  for (int i = 0; i < 3; ++i) {
    const auto master = ask_sentinels(options());
    ASSERT_TRUE(master) << master.error().to_string();
    EXPECT_EQ(master->port, servers_[0]->port());
  }
}

TEST_F(SentinelSink, OneThatNamesAnotherMasterIsOutvotedForTheSinkAndForABlockingCaller) {
  RedisServer another;
  RedisOptions made = options();
  made.sentinels.erase(made.sentinels.begin());
  sentinels_[0]->client().command({"SENTINEL", "REMOVE", "mymaster"});
  ASSERT_TRUE(sentinels_[0]->client().command({"SENTINEL", "MONITOR", "mymaster", "127.0.0.1", std::to_string(another.port()), "3"}).is_ok());
  const auto master = ask_sentinels(made);
  ASSERT_TRUE(master) << master.error().to_string();
  EXPECT_EQ(master->port, servers_[0]->port());
  DrivenSink driven(made);
  ASSERT_TRUE(driven.until_connected());
  EXPECT_EQ(driven.journal().last_connected.instance, info(*servers_[0], "run_id"));
  driven.run(key("k", 10));
  EXPECT_EQ(info(another, "cmdstat_evalsha"), "");
}

TEST_F(SentinelSink, ThatNoneOfThemTellsAnythingIsAProblemWhileTheMasterWorks) {
  DrivenSink driven(options());
  ASSERT_TRUE(driven.until_connected());
  for (const auto& sentinel : sentinels_) sentinel->freeze();
  ASSERT_TRUE(driven.until([&] { return driven.sink().status().problem.has_value(); }));
  EXPECT_THAT(*driven.sink().status().problem, HasSubstr("no sentinel tells any more whether '127.0.0.1:" + std::to_string(servers_[0]->port()) + "' is the master 'mymaster'"));
  EXPECT_THAT(*driven.sink().status().problem, HasSubstr("did not answer within 500ms"));
  EXPECT_TRUE(driven.sink().status().connected);
  driven.run(key("k", 10));
  // Away from the master as well: what is told is what keeps us away now.
  ask(*servers_[0], {"CLIENT", "KILL", "TYPE", "normal"});
  ASSERT_TRUE(driven.until([&] { return driven.journal().last_class == "sentinels" && driven.journal().disconnects == 2; }));
  EXPECT_THAT(*driven.sink().status().problem, HasSubstr("no sentinel tells where the master 'mymaster' is"));
  for (const auto& sentinel : sentinels_) sentinel->thaw();
  ASSERT_TRUE(driven.until([&] { return driven.sink().status().connected; }));
  EXPECT_FALSE(driven.sink().status().problem);
}

TEST_F(SentinelSink, WhatTheyCallTheMasterAndIsNoneIsNamedWithThem) {
  const auto monitor = [&](int port) {
    for (const auto& sentinel : sentinels_) {
      sentinel->client().command({"SENTINEL", "REMOVE", "mymaster"});
      ASSERT_TRUE(sentinel->client().command({"SENTINEL", "MONITOR", "mymaster", "127.0.0.1", std::to_string(port), "3"}).is_ok());
    }
  };
  monitor(servers_[1]->port());
  DrivenSink driven(options());
  ASSERT_TRUE(driven.until([&] { return driven.journal().last_class == "read_only"; }));
  EXPECT_THAT(driven.journal().last_error.text,
              HasSubstr("redis at '127.0.0.1:" + std::to_string(servers_[1]->port()) + "', which the Sentinels call the master: redis refused: 'READONLY"));
  monitor(free_port());
  ASSERT_TRUE(driven.until([&] { return driven.journal().last_class == "connection"; }));
  EXPECT_THAT(driven.journal().last_error.hint, HasSubstr("by this address, which the Sentinels tell"));
}

TEST_F(SentinelSink, OneThatNamesAServerWhichIsNoMasterKeepsNobodyAway) {
  RedisOptions made = options();
  made.sentinels.erase(made.sentinels.begin());
  sentinels_[0]->client().command({"SENTINEL", "REMOVE", "mymaster"});
  ASSERT_TRUE(sentinels_[0]->client().command({"SENTINEL", "MONITOR", "mymaster", "127.0.0.1", std::to_string(servers_[1]->port()), "3"}).is_ok());
  DrivenSink driven(made);
  ASSERT_TRUE(driven.until_connected());
  EXPECT_EQ(driven.journal().last_connected.instance, info(*servers_[0], "run_id"));
  driven.run(key("k", 10));
}

TEST_F(SentinelSink, FollowsThemToAServerThatTheyWereToldOfByHand) {
  DrivenSink driven(options());
  ASSERT_TRUE(driven.until_connected());
  ask(*servers_[1], {"REPLICAOF", "NO", "ONE"});
  for (const auto& sentinel : sentinels_) {
    sentinel->client().command({"SENTINEL", "REMOVE", "mymaster"});
    ASSERT_TRUE(sentinel->client().command({"SENTINEL", "MONITOR", "mymaster", "127.0.0.1", std::to_string(servers_[1]->port()), "2"}).is_ok());
  }
  ASSERT_TRUE(driven.until([&] { return driven.journal().connects == 2; }));
  EXPECT_EQ(driven.journal().last_connected.instance, info(*servers_[1], "run_id"));
}

TEST_F(SentinelSink, CheckSaysWhatTheyTellAndWhoIsAway) {
  const auto rules = RuleSet::parse("- {table: public.t, keys: ['p:{id}']}", "rules.yaml");
  ASSERT_TRUE(rules);
  const Findings findings = check_redis(options(), *rules);
  std::string all;
  for (const Finding& finding : findings) all += finding.id + " " + finding.object + ": " + finding.cause + "\n";
  EXPECT_THAT(all, HasSubstr("RD014"));
  EXPECT_THAT(all, HasSubstr("found by Sentinel: the master is '127.0.0.1:" + std::to_string(servers_[0]->port()) + "'"));
  EXPECT_THAT(all, HasSubstr("cannot be asked"));
  EXPECT_THAT(all, ::testing::Not(HasSubstr("RD001"))) << "the others know";
  RedisOptions wrong = options();
  wrong.sentinel_password = "wrong";
  const Findings refused = check_redis(wrong, *rules);
  all.clear();
  for (const Finding& finding : refused) all += finding.id + " " + finding.object + ": " + finding.cause + " " + finding.fix + "\n";
  EXPECT_THAT(all, HasSubstr("refused the password"));
  EXPECT_THAT(all, ::testing::Not(HasSubstr("wrong\"")));
  EXPECT_THAT(all, HasSubstr("RD001"));
  EXPECT_THAT(all, HasSubstr("'redis: sentinel_password:' is what 'requirepass' says in the Sentinels' own configuration"));
}

}  // namespace
}  // namespace evictd::testing
