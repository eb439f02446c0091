// One session of the catalogue: asks and waits, on a connection that does not block (connection.h), so that each
// question has a deadline whatever the server or the way to it does. Inside the postgres room only. Methods throw;
// guard() turns what they throw into errors. After an exception of kConnection the session is of no more use.
#pragma once

#include <chrono>
#include <exception>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "daemon/sources/postgres/catalogue.h"
#include "daemon/sources/postgres/connection.h"

namespace evictd {

using TextRows = std::vector<std::vector<std::string>>;

// What the methods below throw.
class SessionFailure final : public std::exception {
 public:
  SessionFailure(ErrorKind what_kind, std::string text, std::string state = {}, std::string what_helps = {})
      : kind(what_kind), sqlstate(std::move(state)), hint(std::move(what_helps)), text_(std::move(text)) {}
  const char* what() const noexcept override { return text_.c_str(); }
  const ErrorKind kind;
  const std::string sqlstate;  // empty when the server did not say
  const std::string hint;

 private:
  std::string text_;
};

class CatalogueSession {
 public:
  // `answer_max`: how long one answer may take before the connection counts as dead. Connecting has connect_timeout.
  CatalogueSession(const Conninfo& conninfo, std::chrono::milliseconds answer_max);
  CatalogueSession(const CatalogueSession&) = delete;
  CatalogueSession& operator=(const CatalogueSession&) = delete;

  int version() const { return connection_.server_version(); }
  std::string quote(const std::string& text) const;
  std::string quote_name(const std::string& name) const;

  // One statement. NULL is an empty text.
  TextRows query(const std::string& statement);
  // The same, with names of columns and NULLs; throws only when the session is gone.
  PostgresConnection::Answer ask(const std::string& statement);
  // Of the answer no more than about `bytes_max` is ever held; after one that is too much the session is of no more use.
  PostgresConnection::Answer ask(const std::string& statement, std::size_t bytes_max);
  // Prepares one statement: what is wrong with it, if anything.
  std::optional<PostgresFailure> prepare(const std::string& name, const std::string& statement);
  // All or nothing.
  void transaction(const std::vector<std::string>& statements);

  // Runs `work`; kConnection when the session is gone, kUsage when the server will never agree
  // (rights, names), kTransient otherwise.
  template <typename T, typename Work>
  static Result<T> guard(Work work, const Conninfo& conninfo) {
    std::optional<T> result;
    if (auto error = caught([&] { result.emplace(work()); }, conninfo))
      return tl::unexpected<Error>(std::move(*error));
    return std::move(*result);
  }

 private:
  static std::optional<Error> caught(const std::function<void()>& work, const Conninfo& conninfo);

  // Turns the connection until `done`; throws when it is lost, or when `deadline` passes first.
  PostgresConnection::Answer answer();
  void turn_until(SteadyTime deadline, const std::function<bool()>& done);

  PostgresConnection connection_;
  std::chrono::milliseconds answer_max_;
};

// The tables of `subject` that exist, with what is below them (catalogue_tables.cpp).
std::map<std::string, TableFacts> read_tables(CatalogueSession& session, const Subject& subject,
                                              const PublicationFacts& publication);

}  // namespace evictd
