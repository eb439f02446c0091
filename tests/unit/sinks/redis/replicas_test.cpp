// `replicas_ack` with a real master and its replica, and with a cluster: what replicas lack is not confirmed, whatever else goes on.
#include <gmock/gmock.h>

#include <cstdlib>
#include <iterator>
#include <sstream>

#include "tests/support/redis_cluster.h"
#include "tests/unit/sinks/redis/sink_fixture.h"

namespace evictd::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

void wait_for_replica(RedisServer& replica) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (replica.client().command({"INFO", "replication"}).text.find("master_link_status:up") == std::string::npos) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "the replica is not in step";
    ::poll(nullptr, 0, 20);
  }
}

bool is_confirmed(DrivenSink& driven, std::uint64_t sequence) {
  const auto& confirmed = driven.journal().records_confirmed;
  return !confirmed.empty() && confirmed.back() == sequence;
}

// What was missing has come, on the same connection.
void expect_all_is_well(DrivenSink& driven, std::uint64_t sequence) {
  ASSERT_TRUE(driven.until([&] { return is_confirmed(driven, sequence); }));
  ASSERT_TRUE(driven.until([&] { return !driven.journal().replicas_missing.back(); }));
  EXPECT_FALSE(driven.sink().status().held_up);
  EXPECT_EQ(driven.journal().disconnects, 0);
}

class ReplicasSink : public ::testing::Test {
 protected:
  void SetUp() override {
    EVICTD_NEED_REDIS();
    master_ = std::make_unique<RedisServer>(std::vector<std::string>{"--repl-diskless-sync-delay", "0"});
    replica_ = std::make_unique<RedisServer>(std::vector<std::string>{"--replicaof", "127.0.0.1 " + std::to_string(master_->port())});
    wait_for_replica(*replica_);
  }
  RedisOptions options() const {
    RedisOptions made = options_for(*master_);
    made.replicas_ack = 1;
    made.replicas_timeout = std::chrono::milliseconds(200);
    return made;
  }
  bool save(DrivenSink& driven, std::uint64_t sequence) {
    driven.sink().save_record(numbered_record(sequence));
    return driven.until([&] { return !driven.journal().records_saved.empty() && driven.journal().records_saved.back() == sequence; });
  }

  std::unique_ptr<RedisServer> master_;
  std::unique_ptr<RedisServer> replica_;
};

TEST_F(ReplicasSink, ARecordIsConfirmedWhenTheReplicaHasAllThatWasDoneBefore) {
  DrivenSink driven(options());
  ASSERT_TRUE(driven.until_connected());
  master_->client().set("k", "v");
  driven.run(OrderBuilder(Act::kInvalidate).key("k", {10}));
  ASSERT_TRUE(save(driven, 1));
  ASSERT_TRUE(driven.until([&] { return is_confirmed(driven, 1); }));
  EXPECT_FALSE(replica_->client().exists("k"));
  EXPECT_TRUE(replica_->client().exists("evictd:record:evictd"));
  EXPECT_FALSE(driven.sink().status().held_up);
}

TEST_F(ReplicasSink, WhatAReplicaThatStandsStillLacksIsNotConfirmedWhileDeletesGoOn) {
  DrivenSink driven(options());
  ASSERT_TRUE(driven.until_connected());
  replica_->freeze();
  ASSERT_TRUE(save(driven, 1));
  ASSERT_TRUE(driven.until([&] { return !driven.journal().replicas_missing.empty(); }));
  ASSERT_TRUE(driven.journal().replicas_missing.back());
  EXPECT_THAT(driven.journal().replicas_missing.back()->text,
              AllOf(HasSubstr("127.0.0.1:" + std::to_string(master_->port())), HasSubstr("0 of its replicas"), HasSubstr("asks for 1")));
  EXPECT_EQ(driven.sink().status().held_up, driven.journal().replicas_missing.back()->text);
  EXPECT_TRUE(driven.sink().status().connected);
  for (std::uint64_t i = 0; i < 50; ++i) driven.run(OrderBuilder(Act::kInvalidate).key("k", {10 + i}));
  // Whoever waits is another connection than the one that deletes.
  ASSERT_TRUE(driven.until([&] { return master_->client().command({"INFO", "clients"}).text.find("blocked_clients:1") != std::string::npos; }));
  const std::string clients = master_->client().command({"CLIENT", "LIST"}).text;
  std::size_t waiting = 0, deleting = 0, at = 0;
  while (at < clients.size()) {
    const std::size_t end = std::min(clients.find('\n', at), clients.size());
    const std::string line = clients.substr(at, end - at);
    at = end + 1;
    if (line.find("name=evictd") == std::string::npos) continue;
    (line.find("cmd=wait") != std::string::npos ? waiting : deleting) += 1;
  }
  EXPECT_EQ(waiting, 1u) << clients;
  EXPECT_EQ(deleting, 1u) << clients;
  ASSERT_TRUE(save(driven, 2)) << "records go on, too";
  EXPECT_TRUE(driven.journal().records_confirmed.empty());
  replica_->thaw();
  expect_all_is_well(driven, 2);
}

TEST_F(ReplicasSink, AWitnessThatIsCutOffAsksAgain) {
  DrivenSink driven(options());
  ASSERT_TRUE(driven.until_connected());
  replica_->freeze();
  ASSERT_TRUE(save(driven, 1));
  ASSERT_TRUE(driven.until([&] { return master_->client().command({"INFO", "clients"}).text.find("blocked_clients:1") != std::string::npos; }));
  const std::string clients = master_->client().command({"CLIENT", "LIST"}).text;
  const std::size_t waits = clients.find("cmd=wait");
  ASSERT_NE(waits, std::string::npos) << clients;
  const std::size_t line = clients.rfind("id=", waits);
  const std::string id = clients.substr(line + 3, clients.find(' ', line) - line - 3);
  EXPECT_EQ(master_->client().integer({"CLIENT", "KILL", "ID", id}), 1);
  driven.run(OrderBuilder(Act::kInvalidate).key("k", {10}));
  replica_->thaw();
  ASSERT_TRUE(driven.until([&] { return is_confirmed(driven, 1); }));
  EXPECT_EQ(driven.journal().disconnects, 0) << "the cache was never away";
}

TEST_F(ReplicasSink, AFullServerIsAskedAllTheSame) {
  DrivenSink driven(options());
  ASSERT_TRUE(driven.until_connected());
  master_->client().set("filler", std::string(1'000'000, 'x'));
  ASSERT_TRUE(master_->client().command({"CONFIG", "SET", "maxmemory", "100kb"}).is_ok());
  EXPECT_THAT(master_->client().command({"SET", "k", "v"}).text, HasSubstr("OOM"));
  ASSERT_TRUE(save(driven, 1));
  ASSERT_TRUE(driven.until([&] { return is_confirmed(driven, 1); }));
}

// The command that a hint begins with, after where it is to be given.
std::vector<std::string> advised(const std::string& hint) {
  EXPECT_THAT(hint, ::testing::StartsWith("there: "));
  std::istringstream words(hint.substr(7, hint.find(';') - 7));
  return {std::istream_iterator<std::string>(words), {}};
}

bool is_refused(DrivenSink& driven) {
  return driven.journal().failed || (!driven.journal().replicas_missing.empty() && driven.journal().replicas_missing.back());
}

// How often the server has refused to WAIT.
std::uint64_t refusals(RedisServer& server) {
  const std::string stats = server.client().command({"INFO", "commandstats"}).text;
  const std::size_t line = stats.find("cmdstat_wait:");
  if (line == std::string::npos) return 0;
  const std::size_t count = stats.find("rejected_calls=", line);
  return count == std::string::npos ? 0 : std::strtoull(stats.c_str() + count + 15, nullptr, 10);
}

// The right may be granted while evictd runs, and other caches are served by the same process.
TEST_F(ReplicasSink, AUserWhoMayNotWaitIsToldSoOnceAndAskedAgain) {
  ASSERT_TRUE(master_->client().command({"ACL", "SETUSER", "waiter", "on", ">pw", "~*", "&*", "+@all", "-wait"}).is_ok());
  RedisOptions made = options();
  made.url = "redis://waiter:pw@127.0.0.1:" + std::to_string(master_->port());
  made.replicas_timeout = std::chrono::hours(1);  // no time mends it, so none is waited
  DrivenSink driven(made);
  ASSERT_TRUE(driven.until_connected());
  ASSERT_TRUE(save(driven, 1));
  ASSERT_TRUE(driven.until([&] { return is_refused(driven); }));
  ASSERT_FALSE(driven.journal().failed) << driven.journal().last_error.to_string();
  const Error told = *driven.journal().replicas_missing.back();
  EXPECT_THAT(told.text, AllOf(HasSubstr("127.0.0.1:" + std::to_string(master_->port())), HasSubstr("does not let user 'waiter' run WAIT"),
                               HasSubstr("replicas_ack"), HasSubstr("NOPERM"), Not(HasSubstr("\n"))));
  EXPECT_EQ(driven.sink().status().held_up, told.text);
  master_->client().set("k", "v");
  driven.run(OrderBuilder(Act::kInvalidate).key("k", {10}));
  EXPECT_FALSE(master_->client().exists("k")) << "deletes go on";
  ASSERT_TRUE(driven.until([&] { return refusals(*master_) >= 3; })) << "it is not asked again";
  EXPECT_EQ(driven.journal().replicas_missing.size(), 1u);
  EXPECT_TRUE(driven.journal().records_confirmed.empty());
  ASSERT_TRUE(master_->client().command(advised(told.hint)).is_ok()) << told.hint;
  expect_all_is_well(driven, 1);
}

TEST_F(ReplicasSink, ARightThatIsTakenAwayIsToldAndWaitedFor) {
  DrivenSink driven(options());
  ASSERT_TRUE(driven.until_connected());
  ASSERT_TRUE(save(driven, 1));
  ASSERT_TRUE(driven.until([&] { return is_confirmed(driven, 1); }));
  ASSERT_TRUE(master_->client().command({"ACL", "SETUSER", "default", "-wait"}).is_ok());
  ASSERT_TRUE(save(driven, 2));
  ASSERT_TRUE(driven.until([&] { return is_refused(driven); }));
  ASSERT_TRUE(master_->client().command(advised(driven.journal().replicas_missing.back()->hint)).is_ok());
  ASSERT_TRUE(driven.until([&] { return is_confirmed(driven, 2); }));
}

// Whoever followed the advice must not read it any longer.
TEST_F(ReplicasSink, AfterTheRightIsThereWhatIsMissingIsTheReplica) {
  ASSERT_TRUE(master_->client().command({"ACL", "SETUSER", "default", "-wait"}).is_ok());
  replica_->freeze();
  DrivenSink driven(options());
  ASSERT_TRUE(driven.until_connected());
  ASSERT_TRUE(save(driven, 1));
  ASSERT_TRUE(driven.until([&] { return is_refused(driven); }));
  ASSERT_FALSE(driven.journal().failed);
  ASSERT_TRUE(master_->client().command(advised(driven.journal().replicas_missing.back()->hint)).is_ok());
  EXPECT_TRUE(driven.until([&] {
    const auto& missing = driven.journal().replicas_missing.back();
    return missing && missing->text.find("0 of its replicas") != std::string::npos;
  })) << driven.sink().status().held_up.value_or("nothing");
  replica_->thaw();
  EXPECT_TRUE(driven.until([&] { return is_confirmed(driven, 1); }));
}

TEST_F(ReplicasSink, AServerWithoutWaitIsServedAndNamed) {
  RedisServer server({"--rename-command", "WAIT", ""});
  RedisOptions made = options_for(server);
  made.replicas_ack = 1;
  DrivenSink driven(made);
  ASSERT_TRUE(driven.until_connected());
  ASSERT_TRUE(save(driven, 1));
  ASSERT_TRUE(driven.until([&] { return is_refused(driven); }));
  ASSERT_FALSE(driven.journal().failed);
  EXPECT_THAT(driven.journal().replicas_missing.back()->text, HasSubstr("has no command WAIT"));
  EXPECT_THAT(driven.journal().replicas_missing.back()->hint, HasSubstr("leave 'replicas_ack' out"));
  server.client().set("k", "v");
  driven.run(OrderBuilder(Act::kInvalidate).key("k", {10}));
  EXPECT_FALSE(server.client().exists("k"));
}

TEST_F(ReplicasSink, MoreThanThereAreAreWaitedFor) {
  RedisOptions two = options();
  two.replicas_ack = 2;
  DrivenSink driven(two);
  ASSERT_TRUE(driven.until_connected());
  ASSERT_TRUE(save(driven, 1));
  ASSERT_TRUE(driven.until([&] {
    const auto& missing = driven.journal().replicas_missing;
    return !missing.empty() && missing.back() && missing.back()->text.find("1 of its replicas") != std::string::npos;
  }));
  EXPECT_THAT(driven.journal().replicas_missing.back()->text, HasSubstr("asks for 2"));
  EXPECT_TRUE(driven.journal().records_confirmed.empty());
}

TEST(ReplicasOfACluster, EachMasterThatWasWrittenToIsAsked) {
  EVICTD_NEED_REDIS();
  RedisCluster cluster(3, 1);
  RedisOptions options = options_for(cluster.node(0));
  options.url = cluster.url();
  options.replicas_ack = 1;
  options.replicas_timeout = std::chrono::milliseconds(200);
  DrivenSink driven(options);
  ASSERT_TRUE(driven.until_connected()) << driven.journal().last_error.to_string();
  driven.sink().save_record(numbered_record(1));
  ASSERT_TRUE(driven.until([&] { return is_confirmed(driven, 1); }));
  cluster.node(4).freeze();  // of the second master
  driven.sink().save_record(numbered_record(2));
  ASSERT_TRUE(driven.until([&] { return !driven.journal().replicas_missing.empty(); }));
  ASSERT_TRUE(driven.journal().replicas_missing.back());
  EXPECT_THAT(driven.journal().replicas_missing.back()->text,
              AllOf(HasSubstr("127.0.0.1:" + std::to_string(cluster.node(1).port())), HasSubstr("0 of its replicas")));
  EXPECT_EQ(driven.sink().status().held_up, driven.journal().replicas_missing.back()->text);
  OrderBuilder order(Act::kInvalidate);
  for (int i = 0; i < 100; ++i) order.key("k" + std::to_string(i), {10});
  driven.run(order);
  EXPECT_EQ(driven.journal().records_confirmed, (std::vector<std::uint64_t>{1}));
  cluster.node(4).thaw();
  ASSERT_TRUE(driven.until([&] { return is_confirmed(driven, 2); }));
  EXPECT_FALSE(driven.sink().status().held_up);
}

// The slot that a master's witness writes into; -1: it has not written yet.
int slot_of_witness(RedisServer& master) {
  const Reply keys = master.client().command({"KEYS", "evictd:witness:*"});
  if (keys.elements.empty()) return -1;
  return static_cast<int>(master.client().integer({"CLUSTER", "KEYSLOT", keys.elements.front().text}));
}

class MovingSlots : public ::testing::Test {
 protected:
  void SetUp() override {
    EVICTD_NEED_REDIS();
    cluster_ = std::make_unique<RedisCluster>(3, 1);
    RedisOptions options = options_for(cluster_->node(0));
    options.replicas_ack = 1;
    options.replicas_timeout = std::chrono::milliseconds(200);
    driven_ = std::make_unique<DrivenSink>(options);
    ASSERT_TRUE(driven_->until_connected()) << driven_->journal().last_error.to_string();
    ASSERT_TRUE(is_saved_and_confirmed(1));
  }
  bool is_saved_and_confirmed(std::uint64_t sequence) {
    driven_->sink().save_record(numbered_record(sequence));
    return driven_->until([&] { return is_confirmed(*driven_, sequence); });
  }

  std::unique_ptr<RedisCluster> cluster_;
  std::unique_ptr<DrivenSink> driven_;
};

TEST_F(MovingSlots, AMasterIsAskedInASlotThatItServes) {
  const int slot = slot_of_witness(cluster_->node(0));
  ASSERT_GE(slot, 0);
  cluster_->move_slot(static_cast<unsigned>(slot), 0, 1);
  EXPECT_TRUE(is_saved_and_confirmed(2));
  EXPECT_NE(slot_of_witness(cluster_->node(0)), slot);
}

TEST_F(MovingSlots, AMasterIsAskedInAnotherSlotWhenTheOneItWasAskedInMovesMeanwhile) {
  const int slot = slot_of_witness(cluster_->node(0));
  ASSERT_GE(slot, 0);
  RedisClient& master = cluster_->node(0).client();
  master.command({"ACL", "SETUSER", "default", "-psync", "-sync"});
  master.command({"CLIENT", "KILL", "TYPE", "replica"});
  driven_->sink().save_record(numbered_record(2));
  ASSERT_TRUE(driven_->until([&] { return !driven_->journal().replicas_missing.empty() && driven_->journal().replicas_missing.back(); }));
  cluster_->move_slot(static_cast<unsigned>(slot), 0, 1);
  master.command({"CLIENT", "KILL", "TYPE", "normal"});
  master.command({"ACL", "SETUSER", "default", "+psync", "+sync"});
  EXPECT_TRUE(driven_->until([&] { return is_confirmed(*driven_, 2); }));
  EXPECT_TRUE(is_saved_and_confirmed(3));
}

TEST_F(MovingSlots, ANodeThatServesNoneYetHasNoReplicasToWaitFor) {
  const std::size_t joined = cluster_->add_node();
  const auto slot = static_cast<unsigned>(cluster_->node(0).client().integer({"CLUSTER", "KEYSLOT", "k"}));
  const std::size_t owner = cluster_->owner_of("k");
  cluster_->open_slot(slot, owner, joined);
  driven_->run(OrderBuilder(Act::kInvalidate).key("k", {10}));  // ASK
  EXPECT_TRUE(is_saved_and_confirmed(2));
}

TEST(ReplicasOfACluster, AMasterThatForbidsWaitIsNamedAndAskedAgain) {
  EVICTD_NEED_REDIS();
  RedisCluster cluster(3, 1);
  ASSERT_TRUE(cluster.node(1).client().command({"ACL", "SETUSER", "default", "-wait"}).is_ok());
  RedisOptions options = options_for(cluster.node(0));
  options.url = cluster.url();
  options.replicas_ack = 1;
  DrivenSink driven(options);
  ASSERT_TRUE(driven.until_connected()) << driven.journal().last_error.to_string();
  driven.sink().save_record(numbered_record(1));
  ASSERT_TRUE(driven.until([&] { return is_refused(driven); }));
  ASSERT_FALSE(driven.journal().failed) << driven.journal().last_error.to_string();
  const Error told = *driven.journal().replicas_missing.back();
  EXPECT_THAT(told.text, AllOf(HasSubstr("127.0.0.1:" + std::to_string(cluster.node(1).port())), HasSubstr("run WAIT")));
  EXPECT_EQ(driven.sink().status().held_up, told.text);
  ASSERT_TRUE(cluster.node(1).client().command(advised(told.hint)).is_ok());
  ASSERT_TRUE(driven.until([&] { return is_confirmed(driven, 1); }));
  EXPECT_FALSE(driven.sink().status().held_up);
}

}  // namespace
}  // namespace evictd::testing
