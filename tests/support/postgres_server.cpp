#include "tests/support/postgres_server.h"

#include <gtest/gtest.h>
#include <libpq-fe.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/support/ports.h"

namespace evictd::testing {
namespace {

// The folder with initdb and pg_ctl, newest version first; empty when there is none.
std::string find_programs() {
  if (const char* given = std::getenv("EVICTD_POSTGRES_PROGRAMS")) return given;
  std::string best;
  int best_version = 0;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/usr/lib/postgresql", error)) {
    const int version = std::atoi(entry.path().filename().c_str());
    if (version > best_version && std::filesystem::exists(entry.path() / "bin/initdb")) {
      best_version = version;
      best = entry.path() / "bin";
    }
  }
  return best;
}

// PostgreSQL refuses to run as root.
std::string as_owner(const std::string& command) {
  return ::geteuid() == 0 ? "runuser -u postgres -- " + command : command;
}

int run_command(const std::string& command) {
  return std::system((command + " >/dev/null 2>&1").c_str());
}

}  // namespace

bool servers_are_required() {
  const char* value = std::getenv("EVICTD_REQUIRE_SERVERS");
  return value != nullptr && std::string(value) == "1";
}

void PostgresSession::Closer::operator()(pg_conn* connection) const { PQfinish(connection); }

PostgresSession::PostgresSession(int port, const std::string& database, const std::string& user)
    : connection_(PQconnectdb(("host=127.0.0.1 port=" + std::to_string(port) +
                               " dbname=" + database + " user=" + user + " application_name=test")
                                  .c_str())) {
  EXPECT_EQ(PQstatus(connection_.get()), CONNECTION_OK) << PQerrorMessage(connection_.get());
  PQsetNoticeProcessor(
      connection_.get(), [](void*, const char*) {}, nullptr);
}

PostgresSession::~PostgresSession() = default;
PostgresSession::PostgresSession(PostgresSession&&) noexcept = default;

Rows PostgresSession::run(const std::string& statements) {
  Rows rows;
  PGresult* result = PQexec(connection_.get(), statements.c_str());
  const auto status = PQresultStatus(result);
  EXPECT_TRUE(status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK)
      << statements << "\n"
      << PQerrorMessage(connection_.get());
  for (int row = 0; row < PQntuples(result); ++row) {
    auto& values = rows.emplace_back();
    for (int column = 0; column < PQnfields(result); ++column) {
      values.emplace_back(PQgetisnull(result, row, column) != 0 ? "NULL"
                                                                : PQgetvalue(result, row, column));
    }
  }
  PQclear(result);
  return rows;
}

std::string PostgresSession::value(const std::string& statement) {
  const Rows rows = run(statement);
  return rows.empty() || rows[0].empty() ? std::string() : rows[0][0];
}

void PostgresSession::begin(const std::string& statement) {
  EXPECT_EQ(PQsendQuery(connection_.get(), statement.c_str()), 1)
      << PQerrorMessage(connection_.get());
}

void PostgresSession::finish() {
  while (PGresult* result = PQgetResult(connection_.get())) {
    EXPECT_NE(PQresultStatus(result), PGRES_FATAL_ERROR) << PQresultErrorMessage(result);
    PQclear(result);
  }
}

std::string PostgresSession::error_of(const std::string& statement) {
  PGresult* result = PQexec(connection_.get(), statement.c_str());
  const char* state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  std::string answer = state == nullptr ? "" : state;
  PQclear(result);
  return answer;
}

std::unique_ptr<PostgresServer> PostgresServer::make(
    std::string& why, const std::map<std::string, std::string>& settings) {
  const std::string programs = find_programs();
  if (programs.empty()) {
    why = "PostgreSQL's server programs are not installed (apt install postgresql)";
    return nullptr;
  }
  std::unique_ptr<PostgresServer> server(new PostgresServer);
  std::string folder = (std::filesystem::temp_directory_path() / "evictd-postgres-XXXXXX").string();
  if (::mkdtemp(folder.data()) == nullptr) {
    why = "cannot make a temporary folder";
    return nullptr;
  }
  server->folder_ = folder;
  ::chmod(folder.c_str(), 0755);
  if (::geteuid() == 0 && run_command("chown postgres " + folder) != 0) {
    why = "there is no user 'postgres' to run PostgreSQL as";
    return nullptr;
  }
  if (run_command(as_owner(programs + "/initdb -D " + folder +
                           "/data -U postgres -A trust -E UTF8 --locale=C.UTF-8")) != 0) {
    why = "initdb failed in " + folder;
    return nullptr;
  }
  server->port_ = free_port();
  std::ofstream conf(folder + "/data/postgresql.conf", std::ios::app);
  conf << "listen_addresses = '127.0.0.1'\nport = " << server->port_
       << "\nunix_socket_directories = '" << folder << "'\n"
       << "wal_level = logical\nfsync = on\nmax_wal_senders = 20\nmax_replication_slots = "
          "20\nmax_connections = 60\n"
       << "shared_buffers = 32MB\nautovacuum = off\nlog_min_messages = warning\n";
  for (const auto& [name, value] : settings) conf << name << " = '" << value << "'\n";
  conf.close();
  server->start();
  if (!server->is_running()) {
    why = "PostgreSQL did not start, see " + folder + "/log";
    return nullptr;
  }
  return server;
}

PostgresServer::~PostgresServer() {
  if (port_ != 0 && is_running()) stop("immediate");
  if (!folder_.empty()) {
    std::error_code error;
    std::filesystem::remove_all(folder_, error);
  }
}

void PostgresServer::start() {
  run_command(as_owner(find_programs() + "/pg_ctl -D " + folder_ + "/data -l " + folder_ +
                       "/log -w -t 60 start"));
}

bool PostgresServer::stop(const std::string& mode, int seconds) {
  return run_command(as_owner(find_programs() + "/pg_ctl -D " + folder_ + "/data -w -t " +
                              std::to_string(seconds) + " -m " + mode + " stop")) == 0;
}

void PostgresServer::begin_stop(const std::string& mode) {
  run_command(
      as_owner(find_programs() + "/pg_ctl -D " + folder_ + "/data -W -m " + mode + " stop"));
}

bool PostgresServer::is_running() const {
  std::ifstream file(folder_ + "/data/postmaster.pid");
  int pid = 0;
  return (file >> pid) && pid > 0 && ::kill(pid, 0) == 0;
}

std::string PostgresServer::url(const std::string& database, const std::string& user) const {
  return "postgresql://" + user + "@127.0.0.1:" + std::to_string(port_) + "/" + database;
}

PostgresSession PostgresServer::session(const std::string& database,
                                        const std::string& user) const {
  return PostgresSession(port_, database, user);
}

std::string PostgresServer::make_database() {
  const std::string name = "shop" + std::to_string(++databases_);
  make_database(name);
  return name;
}

void PostgresServer::make_database(const std::string& name, const std::string& options) {
  session().run("create database " + name + " " + options);
}

void PostgresServer::set(const std::string& setting, const std::string& value, bool restart) {
  session().run("alter system set " + setting + " = '" + value + "'");
  if (restart) {
    stop("fast");
    start();
  } else {
    const std::string before = session().value("select pg_conf_load_time()");
    session().run("select pg_reload_conf()");
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    // A new session has what the postmaster has read.
    while (session().value("select pg_conf_load_time()") == before &&
           std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
}

}  // namespace evictd::testing
