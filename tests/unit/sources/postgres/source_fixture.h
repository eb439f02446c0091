// One private server for all tests of this binary, a new database for each.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "daemon/sources/postgres/postgres_source.h"
#include "tests/support/postgres_server.h"
#include "tests/support/source_driver.h"

namespace evictd::testing {

// Started at the first use, stopped when the program ends.
inline PostgresServer* shared_server(std::string& why) {
  static std::string reason;
  static const std::unique_ptr<PostgresServer> server = PostgresServer::make(reason);
  why = reason;
  return server.get();
}

class SourceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string why;
    server = shared_server(why);
    EVICTD_NEEDS_POSTGRES(server, why);
    database = server->make_database();
    slot = "slot_" + database;
    sql = std::make_unique<PostgresSession>(server->session(database));
  }

  // Roles are the server's, which tests share: one that another test has made stays as it is.
  void make_role(const std::string& name, const std::string& attributes) {
    sql->run("do $$ begin if not exists (select from pg_roles where rolname = '" + name + "') then create role " + name + " " + attributes +
             "; end if; end $$");
  }

  void TearDown() override {
    if (driver) driver->stop();
    driver.reset();
    source.reset();
    if (server == nullptr || !server->is_running()) return;
    // A slot left behind would keep WAL and hold up other tests.
    auto cleaner = server->session();
    cleaner.run(
        "select pg_terminate_backend(active_pid) from pg_replication_slots where database = '" +
        database + "' and active_pid is not null");
    for (int i = 0;
         i < 500 && cleaner.value("select count(*) from pg_replication_slots where database = '" +
                                  database + "' and active") != "0";
         ++i) {
      ::poll(nullptr, 0, 10);
    }
    cleaner.run(
        "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = '" +
        database + "'");
  }

  PostgresOptions options() const {
    PostgresOptions result;
    result.url = server->url(database, user);
    result.slot = slot;
    result.publication = "evictd";
    result.heartbeat = std::chrono::milliseconds(0);
    return result;
  }

  // A source that follows `tables`, not started yet.
  void make(const std::vector<std::string>& tables, PostgresOptions chosen) {
    if (driver) driver->stop();
    chosen.on_notice = [this](const PostgresNotice& notice) { notices.push_back(notice); };
    source = make_postgres_source(std::move(chosen));
    source->set_tables(tables);
    driver = std::make_unique<SourceDriver>(*source);
  }

  // Streaming, with the record of a first start.
  void stream(const std::vector<std::string>& tables,
              const std::optional<Record>& record = std::nullopt) {
    make(tables, options());
    driver->start(record);
    ASSERT_TRUE(driver->until_connected()) << explain();
  }

  SourceJournal& journal() { return driver->journal; }

  // What a pipeline would have put on record by now.
  Record record() {
    Record result;
    EXPECT_TRUE(journal().connected);
    if (!journal().connected) return result;
    result.epoch = journal().connected->epoch;
    result.source_instance = journal().connected->instance;
    result.source_identity = journal().connected->source_identity;
    result.tables = journal().connected->tables;
    result.acknowledged[kOnlyStream] = std::max(journal().last_commit.value, journal().keepalive.value);
    return result;
  }

  std::string explain() {
    std::string text;
    for (const Error& error : journal().disconnects)
      text += "disconnected: " + error.to_string() + "\n";
    if (journal().failure) text += "failed: " + journal().failure->to_string() + "\n";
    for (const PostgresNotice& notice : notices) text += "notice: " + notice.text + "\n";
    for (const std::string& standby : journal().standbys) text += "standby: " + standby + "\n";
    for (const auto& seen : journal().gaps)
      text += "gap: " + seen.gap.reason + ": " + seen.gap.detail + "\n";
    return text + "state: " + source->status().state;
  }

  std::string slot_value(const std::string& expression) {
    return sql->value("select " + expression + " from pg_replication_slots where slot_name = '" +
                      slot + "'");
  }

  PostgresServer* server = nullptr;
  std::string database;
  std::string slot;
  std::string user = "postgres";
  std::unique_ptr<PostgresSession> sql;
  std::unique_ptr<Source> source;
  std::unique_ptr<SourceDriver> driver;
  std::vector<PostgresNotice> notices;
};

}  // namespace evictd::testing
