// Whose topics are read, and what of that the epoch says.
#include "daemon/sources/kafka/debezium_servers.h"

#include <gtest/gtest.h>

namespace evictd {
namespace {

const std::set<std::string> kTables = {"public.items", "public.we.ird"};

TEST(DebeziumServersTest, TheEpochNamesThemAll) {
  DebeziumServers servers;
  EXPECT_EQ(servers.epoch(), "debezium/");
  EXPECT_TRUE(servers.learn({"shop.public.items", "eu.shop.public.items"}, kTables));
  EXPECT_EQ(servers.epoch(), "debezium/eu.shop+shop");
  servers.forget();
  servers.learn({"my shop.public.items"}, kTables);
  EXPECT_EQ(servers.epoch(), "debezium/my_shop") << "in the record a blank ends it";
}

TEST(DebeziumServersTest, AnotherTopicOfAServerIsNoNewServer) {
  DebeziumServers servers;
  EXPECT_TRUE(servers.learn({"shop.public.items"}, kTables));
  EXPECT_FALSE(servers.learn({"shop.public.items"}, kTables));
  EXPECT_FALSE(servers.learn({"shop.public.other"}, kTables));
  EXPECT_TRUE(servers.learn({"eu.public.items"}, kTables));
}

TEST(DebeziumServersTest, WhatATopicNamedWhenItWasLearntStandsUntilThen) {
  DebeziumServers servers;
  servers.learn({"shop.public.we.ird"}, {});
  EXPECT_EQ(servers.epoch(), "debezium/shop.public");
  EXPECT_FALSE(servers.learn({"shop.public.we.ird"}, kTables)) << "other rules make no other server of it";
}

TEST(DebeziumServersTest, AnotherClientLooksAnew) {
  DebeziumServers servers;
  servers.learn({"shop.public.items"}, kTables);
  servers.forget();
  EXPECT_EQ(servers.epoch(), "debezium/");
  EXPECT_TRUE(servers.learn({"shop.public.items"}, kTables));
}

TEST(DebeziumServersTest, WhatNamesNoTableNamesNoServer) {
  DebeziumServers servers;
  EXPECT_FALSE(servers.learn({"routed", "my.shop.transaction", "__debezium-heartbeat.shop"}, kTables));
  EXPECT_TRUE(servers.learn({"shop.public.we.ird"}, kTables));
  EXPECT_EQ(servers.epoch(), "debezium/shop") << "dots of a table's own name are no borders";
}

TEST(DebeziumServersTest, IdsOfTransactionsCompareWhereThereIsOneServerAlone) {
  DebeziumServers servers;
  EXPECT_FALSE(servers.is_only("")) << "nobody knows which";
  servers.learn({"shop.public.items"}, kTables);
  EXPECT_TRUE(servers.is_only("shop"));
  EXPECT_TRUE(servers.is_only(""));
  EXPECT_FALSE(servers.is_only("eu"));
  servers.learn({"eu.public.items"}, kTables);
  EXPECT_FALSE(servers.is_only("shop"));
}

}  // namespace
}  // namespace evictd
