// The contract of every Source, on PostgreSQL.
#include "tests/contract/source_contract.h"
#include "tests/unit/sources/postgres/source_fixture.h"

namespace evictd::testing {
namespace {

class PostgresHarness final : public SourceHarness {
 public:
  PostgresHarness() {
    server_ = shared_server(why_);
    if (server_ == nullptr) return;
    database_ = server_->make_database();
    sql_ = std::make_unique<PostgresSession>(server_->session(database_));
    sql_->run("create table rows (id serial primary key)");
  }
  ~PostgresHarness() override {
    if (!sql_) return;
    for (int i = 0;
         i < 500 &&
         sql_->value("select count(*) from pg_replication_slots where active and database ="
                     " current_database()") != "0";
         ++i) {
      ::poll(nullptr, 0, 10);
    }
    sql_->run(
        "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = "
        "current_database()");
  }
  std::string missing() const override { return server_ == nullptr ? why_ : ""; }
  std::unique_ptr<Source> make_source() override {
    PostgresOptions options;
    options.url = server_->url(database_);
    options.slot = "slot_" + database_;
    options.heartbeat = std::chrono::milliseconds(0);
    return make_postgres_source(options);
  }
  std::vector<std::string> tables() const override { return {"public.rows"}; }
  void write(int changes) override {
    sql_->run("insert into rows select from generate_series(1, " + std::to_string(changes) + ")");
  }
  bool can_lose_history() const override { return true; }
  void lose_history() override {
    ASSERT_TRUE(sql_);
    for (int i = 0; i < 500 && sql_->value("select count(*) from pg_replication_slots where active and database ="
                                           " current_database()") != "0"; ++i) {
      ::poll(nullptr, 0, 10);
    }
    sql_->run("select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = current_database()");
  }
  void break_connection() override {
    sql_->run(
        "select pg_terminate_backend(active_pid) from pg_replication_slots where database = "
        "current_database()");
  }

 private:
  std::string why_;
  PostgresServer* server_ = nullptr;
  std::string database_;
  std::unique_ptr<PostgresSession> sql_;
};

INSTANTIATE_TEST_SUITE_P(Postgres, SourceContract,
                         ::testing::Values([] { return std::make_unique<PostgresHarness>(); }));

}  // namespace
}  // namespace evictd::testing
