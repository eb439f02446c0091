// The refresher's question to the database: what the keys of one rule should be, and a snapshot that says what these values
// have seen, both by one statement. On a session of its own that reads and never writes. Blocking, each answer with a deadline,
// and each statement with a timeout at the server.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/sources/postgres/conninfo.h"
#include "mapping/error.h"
#include "mapping/rules.h"

namespace evictd {

struct RefreshDatabaseOptions {
  DatabaseAddress database;
  std::chrono::milliseconds statement_timeout{3'000};
};

// A value as a reader would fill it.
struct RefreshValue {
  std::string key;
  std::optional<std::string> text;  // nothing: NULL, or too long
  bool is_too_long = false;
  std::vector<std::string> tags;       // that the key is to be listed under
  std::vector<std::string> lazy_tags;  // that it depends on
};

struct RefreshAnswer {
  std::string token;  // the text of the statement's snapshot; empty when there are no values
  std::vector<RefreshValue> values;
};

class RefreshDatabase {
 public:
  // Values longer than this are left to readers.
  static constexpr std::size_t kValueBytesMax = 1024 * 1024;

  // Connects with the first question. `rules` must outlive it.
  static Result<std::unique_ptr<RefreshDatabase>> make(const RefreshDatabaseOptions& options, const RuleSet& rules);
  ~RefreshDatabase();

  // There is a session, and it is one of a primary. kUsage for a standby.
  Result<void> connect();
  // What is wrong with the rule's query, if anything: it is prepared, planned and run for no key. REQUIRES: it has one.
  Result<void> prepare(std::uint32_t rule);
  // The columns that the query answers with behind the value. REQUIRES: prepare() succeeded.
  bool has_tags(std::uint32_t rule) const;

  // `keys` each with the canonical texts of its columns. kConnection: the session is gone. kUsage: the query will not
  // answer before something is changed. kData: one of the keys' texts is no value of its column. kTransient: it took too
  // long, or another reason that may pass.
  Result<RefreshAnswer> read(std::uint32_t rule, const std::vector<std::vector<std::string>>& texts);

  // Ends the session where it has not been used for a moment: a server that shuts down smartly waits for each (G7).
  void rest();

 private:
  RefreshDatabase();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace evictd
