// The audit's questions to the database, on a session of its own that reads and never writes. Blocking, each answer with a
// deadline; every statement that the application's tables are asked with has a timeout at the server too.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/audit/judge.h"
#include "daemon/sources/postgres/conninfo.h"
#include "daemon/sources/postgres/lsn.h"
#include "mapping/key_shape.h"
#include "mapping/mapper.h"

namespace evictd {

// A key to be looked at, and how to find its row.
struct AuditSample {
  std::uint32_t rule = 0;
  std::string key;
  // Canonical texts of the columns of the rule's only key template: what its query asks for. Empty: not known.
  std::vector<std::string> texts;
  // Texts of the columns of the table's primary key, where the sample came from a row.
  std::vector<std::string> row;
  // The template that the key was read by, where it came from the cache.
  std::optional<std::size_t> shape;
};

// How a rule's keys can be found and judged, by the table as it is.
struct AuditPlan {
  std::vector<KeyShape> shapes;
  // Per shape: its columns name one row at most, by an index; and they can be read out of a key, so that it is found by them.
  std::vector<bool> names_one_row;
  std::vector<bool> is_unique;
  std::vector<std::string> primary_key;
  // Why nothing of it can be judged; empty: it can.
  std::string problem;
  // Why some of its keys are not judged, where others are: "key 'a:{b.id}': why".
  std::vector<std::string> left_out;

  // Keys of this shape, met in the cache, can be judged.
  bool can_scan(std::size_t shape, const RuleInfo& rule) const;
};

// One moment of the database.
struct AuditMoment {
  Snapshot snapshot;
  Lsn wal;  // all that the snapshot sees was committed before
};

class AuditDatabase {
 public:
  // `rules` must outlive it. kUsage for a standby.
  static Result<std::unique_ptr<AuditDatabase>> open(const DatabaseAddress& address, const RuleSet& rules);
  ~AuditDatabase();

  // "<system identifier>/<timeline>"; empty where the server does not say.
  const std::string& epoch() const;
  const AuditPlan& plan(std::uint32_t rule) const;

  // What the database says of these keys of one rule, in one REPEATABLE READ transaction; one answer for each sample.
  // What is wrong with the rule's query, or with one key, stands in the answers; an error is a lost session.
  struct Seen {
    AuditMoment moment;
    std::vector<AuditFacts> facts;
  };
  Result<Seen> look(std::uint32_t rule, const std::vector<AuditSample>& samples);

  // Keys of some rows of the rule's table, drawn from a few of its pages.
  Result<std::vector<AuditSample>> draw_rows(std::uint32_t rule, std::size_t rows);

  // Ends the session where it has not been used for a moment; the next question makes a new one. None is kept for longer
  // than a few seconds anyway: a server that shuts down smartly waits for each to leave by itself (G7).
  void rest();

  // Statements that the application's tables were asked with, since open().
  std::uint64_t questions() const;

 private:
  AuditDatabase();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace evictd
