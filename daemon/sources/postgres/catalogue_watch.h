// The watch over the catalogue while streaming: when to look, and what follows from what was seen. Nothing in the stream tells that a table
// left the publication, was rewritten or got a column that a rule needs.
//
// A look at thousands of partitions takes the server seconds: it then has many times as long without one. Between the beginnings of two
// looks lie `interval` and 20 times what the last one took, but no more than 30 s for that. A table that the stream describes is looked at
// sooner: after 1 s and 4 times what the last one took.
//
// Outlives connections: tables that were published before are not new to us. Pure: the caller asks the catalogue, and acts.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>

#include "daemon/base/clock.h"
#include "daemon/sources/postgres/catalogue.h"
#include "daemon/sources/postgres/lsn.h"
#include "daemon/sources/postgres/plan.h"
#include "daemon/sources/postgres/recurring.h"
#include "daemon/sources/postgres/truncates.h"

namespace evictd {

class CatalogueWatch {
 public:
  // `interval`: PostgresOptions::watch_interval.
  explicit CatalogueWatch(std::chrono::milliseconds interval) : interval_(interval) {}

  // ---- What is followed: table by name, with its digest (see Record).
  const std::map<std::string, std::string>& followed() const { return followed_; }
  // A new attempt to connect: an answer that is not there yet never comes.
  void connecting() { look_.forget(); }
  // The facts of this attempt, which are compared with the record: what no TRUNCATE has explained until now is judged as it stands.
  // Puts back what TRUNCATEs explain.
  void judges(std::map<std::string, TableFacts>& tables);
  // Streaming begins; what was read on the way here is followed.
  void streaming(const Facts& facts, SteadyTime now);

  // ---- When to look.
  SteadyTime due() const { return look_.due(); }
  // -> whether to look now.
  bool looks(SteadyTime now);
  // The rules name other tables.
  void look_at_once() { look_.due_at(SteadyTime::min()); }
  // The stream describes a table: before its first row, and again when something was altered, if only statistics. The first description
  // may be after the alteration, too.
  void described();
  // A TRUNCATE in the stream, by the transaction with these low 32 bits.
  void truncated(Oid relation, std::uint32_t xid) { truncates_.saw(relation, xid); }

  // ---- What was seen. Every look that was begun is answered, unless its connection ends: answered(), then one of the others.
  void answered(SteadyTime now);
  void unreadable(const std::string& why) { problem_ = "cannot read the catalogue: " + why; }
  enum class Follows {
    kNothing,
    // What needs work, or changes what is followed, goes the way of a new connection: gaps are found, put on record and repaired in one
    // place.
    kReconnect,
    // These facts and the plan are what holds from now on.
    kGoesOn,
  };
  struct Seen {
    Follows follows = Follows::kNothing;
    std::string why;         // kReconnect: what has changed
    bool has_grown = false;  // followed() is other, in a way that misses nothing
    Plan plan;
  };
  // `facts`: as they were read; what TRUNCATEs explain is put back in them. `input`: of these facts. `received`: how far the stream has
  // come.
  Seen saw(Facts& facts, const PlanInput& input, Lsn received, SteadyTime now);

  // Why readiness is refused; empty: it is not.
  const std::string& problem() const { return problem_; }

 private:
  std::chrono::nanoseconds distance(std::chrono::nanoseconds least, int rest) const;

  std::chrono::milliseconds interval_;
  Recurring look_;
  SteadyTime looked_at_{};
  std::chrono::nanoseconds look_took_{0};  // the last one
  SeenTruncates truncates_;
  // A file that no TRUNCATE explains was seen when the server's log ended here: judged when the stream has come so far.
  std::optional<Lsn> file_change_seen_;
  std::map<std::string, std::string> followed_;
  std::string problem_;
};

}  // namespace evictd
