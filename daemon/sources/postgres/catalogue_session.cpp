#include "daemon/sources/postgres/catalogue_session.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "daemon/base/poll.h"
#include "daemon/base/stop.h"
#include "daemon/sources/postgres/failure.h"
#include "daemon/sources/postgres/sql_text.h"

namespace evictd {
namespace {

// The connection ends a try to connect by itself; this is only for one that forgets to.
constexpr std::chrono::minutes kConnectMax{5};
// What was asked is worth an answer; a person who wants to end a command is not to wait for a server that hangs.
constexpr std::chrono::seconds kStopMax{1};

constexpr std::string_view kLockNotAvailable = "55P03";
constexpr std::string_view kLockHint =
    "another session holds a lock that this waits for: SELECT pid, relation::regclass, mode FROM pg_locks WHERE granted AND relation > 0 AND mode"
    " NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock'); wait, or end it with SELECT pg_terminate_backend(pid)";

// 57P0x: the server is going away. 42xxx, rights and names: it will never agree. Others may pass: locks, resources.
ErrorKind kind_of(const std::string& sqlstate) {
  if (sqlstate.starts_with("57P")) return ErrorKind::kConnection;
  return sqlstate.starts_with("42") ? ErrorKind::kUsage : ErrorKind::kTransient;
}

}  // namespace

CatalogueSession::CatalogueSession(const Conninfo& conninfo, std::chrono::milliseconds answer_max)
    : answer_max_(answer_max) {
  const Now now = read_clocks();
  connection_.open(conninfo, now);
  turn_until(now.steady + kConnectMax, [&] { return connection_.state() == PostgresConnection::State::kIdle; });
}

void CatalogueSession::turn_until(SteadyTime deadline, const std::function<bool()>& done) {
  bool is_stopping = false;
  while (true) {
    const Now now = read_clocks();
    connection_.step(now);
    if (done()) return;
    if (connection_.state() == PostgresConnection::State::kClosed) {
      const auto& failure = connection_.failure();
      if (!failure) throw SessionFailure(ErrorKind::kConnection, "the connection was closed");
      throw SessionFailure(ErrorKind::kConnection, failure->text, {},
                           failure->hint.empty() ? std::string(hint_when_full(failure->sqlstate)) : failure->hint);
    }
    if (now.steady >= deadline) {
      connection_.close();
      if (is_stopping) throw SessionFailure(ErrorKind::kConnection, "stopped while waiting for an answer");
      throw SessionFailure(
          ErrorKind::kConnection,
          fmt::format("no answer within {} s",
                      std::chrono::duration_cast<std::chrono::seconds>(answer_max_).count()));
    }
    Waiting waiting;
    waiting.wake_at(deadline);
    connection_.wait_for(waiting, true);
    const std::size_t stop_at = waiting.descriptors.size();
    if (const int stop = stop_descriptor; stop >= 0 && !is_stopping) waiting.descriptors.push_back(pollfd{stop, POLLIN, 0});
    if (wait_for_any(waiting) > 0 && stop_at < waiting.descriptors.size() && waiting.descriptors[stop_at].revents != 0) {
      is_stopping = true;
      deadline = std::min(deadline, read_clocks().steady + kStopMax);
    }
  }
}

std::string CatalogueSession::quote(const std::string& text) const { return quoted_text(text); }

std::string CatalogueSession::quote_name(const std::string& name) const { return quoted_name(name); }

PostgresConnection::Answer CatalogueSession::answer() {
  turn_until(read_clocks().steady + answer_max_,
             [&] { return connection_.state() == PostgresConnection::State::kIdle; });
  return connection_.take_answer().value_or(PostgresConnection::Answer{});
}

PostgresConnection::Answer CatalogueSession::ask(const std::string& statement) {
  // Says so when the server has ended the session since.
  turn_until(SteadyTime::max(), [&] { return connection_.state() == PostgresConnection::State::kIdle; });
  connection_.send(statement);
  return answer();
}

PostgresConnection::Answer CatalogueSession::ask(const std::string& statement, std::size_t bytes_max) {
  turn_until(SteadyTime::max(), [&] { return connection_.state() == PostgresConnection::State::kIdle; });
  connection_.send(statement, bytes_max);
  std::optional<PostgresConnection::Answer> found;
  turn_until(read_clocks().steady + answer_max_, [&] {
    if (!found) found = connection_.take_answer();
    return connection_.state() == PostgresConnection::State::kIdle || (found && found->is_too_much);
  });
  return std::move(found).value_or(PostgresConnection::Answer{});
}

std::optional<PostgresFailure> CatalogueSession::prepare(const std::string& name, const std::string& statement) {
  turn_until(SteadyTime::max(), [&] { return connection_.state() == PostgresConnection::State::kIdle; });
  connection_.send_prepare(name, statement);
  return answer().failure;
}

TextRows CatalogueSession::query(const std::string& statement) {
  PostgresConnection::Answer found = ask(statement);
  if (found.failure) throw SessionFailure(kind_of(found.failure->sqlstate), found.failure->text, found.failure->sqlstate);
  return std::move(found.rows);
}

void CatalogueSession::transaction(const std::vector<std::string>& statements) {
  query("begin read write");  // whatever the role or the database has for a default
  try {
    for (const std::string& statement : statements) query(statement);
  } catch (const SessionFailure& failure) {
    if (failure.kind != ErrorKind::kConnection) query("rollback");
    throw;
  }
  query("commit");
}

std::optional<Error> CatalogueSession::caught(const std::function<void()>& work, const Conninfo& conninfo) {
  try {
    work();
    return std::nullopt;
  } catch (const SessionFailure& failure) {
    return Error{failure.kind, conninfo.scrub(failure.what()), failure.sqlstate == kLockNotAvailable ? std::string(kLockHint) : failure.hint};
  } catch (const std::exception& e) {
    // An answer of another shape than asked for: this is not a session to go on with.
    return Error{ErrorKind::kConnection, fmt::format("unexpected answer: {}", conninfo.scrub(e.what())), {}};
  }
}

}  // namespace evictd
