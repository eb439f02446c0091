// The audit's judgement: whether a cached value is as new as the database, from facts that were read elsewhere. Pure.
//
// Two tests:
//  - by the marker (`fill: checked`): the value's snapshot has to see the transaction that last wrote the key's row.
//    It needs no query of the application. What it cannot tell it calls unknown, never stale: see judge_marker().
//  - by content: the value is what the rule's own query says (`audit: {query, compare}`). Where there is a query, it judges.
//
// A value that fails a test is a suspect, and no more than that: evictd may be about to delete it. It is stale once the
// same fill is still there after everything that the database showed at the first look has been acknowledged, settled
// (judge_again()). So an evictd that is late, stopped or busy repairs nothing and hides nothing: its suspects stay
// `in_flight`, and whoever reads the result is told how far behind it is.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/interface/version.h"
#include "mapping/json_path.h"
#include "mapping/rules.h"

namespace evictd {

// What a cache has under one key, at one moment.
struct Presence {
  bool is_there = false;
  std::string problem;  // there, but no text that could be read
  std::string value;
  std::string marker;             // empty: none
  std::int64_t expires_at_ms = 0;  // by the cache's clock; 0: never

  // The same value under the same marker; of plain values it may have been stored anew.
  bool looks_like(const Presence& other) const;
  // Whether it is the same fill, not merely the same value: nobody stored, deleted or invalidated it in between. A fill's own marker tells,
  // otherwise a lifetime that goes on; readers that prolong it with each read (GETEX) leave nothing to tell plain values by.
  bool is_same_fill(const Presence& other) const;
};

// The row of a key, as one snapshot of the database shows it.
struct AuditedRow {
  std::uint32_t xmin = 0;     // the system column: who wrote this version, modulo 2^32; perhaps a subtransaction
  std::string row_version;    // canonical text of the rule's version column; empty: none
};

// What the rule's query answered for a key.
struct AuditAnswer {
  std::vector<std::string> columns;               // names, the key's columns left out
  std::vector<bool> are_numbers;                  // whether their type is one of numbers
  std::vector<std::optional<std::string>> values;  // NULL: nothing
};

// All that one look at the database says of a key.
struct AuditFacts {
  Snapshot snapshot;
  // The rule's query; `problem` says why there is no answer to go by.
  bool has_query = false;
  std::optional<AuditAnswer> answer;
  std::string problem;
  // Rows that render the key; none when the key's row was not looked for or is not there.
  std::vector<AuditedRow> rows;
  bool rows_were_read = false;
  // Why the rows that were looked for are not all that the key is made of, by the rules; empty: they are, or another rule judges the rest.
  std::string unproven;
  // The row, or rows, are all that any rule makes this key of.
  bool is_of_these_rows_alone = true;
};

enum class AuditVerdict : std::uint8_t { kFresh, kSuspect, kUnknown };
struct Judgement {
  AuditVerdict verdict = AuditVerdict::kUnknown;
  std::string reason;  // for a person; empty when fresh

  friend bool operator==(const Judgement&, const Judgement&) = default;
};

// The 64-bit id of a row's xmin, the latest one before `snapshot` ends. Nothing when no such transaction can have been.
std::optional<Xid> xmin_of_row(std::uint32_t xmin, const Snapshot& snapshot);
// Once the server has given out 2^32 ids, a row's xmin may be that of a round before (its row is frozen, which SQL does
// not show), and "later than the value" can no longer be concluded from it.
bool xids_have_wrapped(const Snapshot& snapshot);

// By the marker. `marker` is its text; `filled_since`: markers filled before (ms, the cache's clock) are of another history
// of the database.
Judgement judge_marker(const RuleInfo& rule, std::string_view marker, std::int64_t filled_since, const AuditFacts& facts);

// By content. REQUIRES: facts.answer.
Judgement judge_content(const RuleInfo& rule, std::string_view value, const AuditAnswer& answer, JsonReader& json);

// Both, as the rule asks; and a marker that has seen its row is no proof where the key is one of joined tables too. REQUIRES: presence.is_there.
Judgement judge(const RuleInfo& rule, const Presence& presence, std::int64_t filled_since, const AuditFacts& facts,
                JsonReader& json);

// Why no key of this rule can be judged at all, for a person; empty: it can.
std::string why_not_audited(const RuleInfo& rule, bool passes_over_updates);

enum class AuditOutcome : std::uint8_t { kFresh, kStale, kInFlight, kUnreadable };
std::string_view audit_outcome_name(AuditOutcome outcome);

// A look at one key: what the cache had before and after, and what the database said in between.
struct Look {
  Presence before;
  Presence after;
  AuditFacts facts;
  Judgement judgement;  // of `before`
};

enum class NextStep : std::uint8_t {
  kDone,       // `outcome` stands
  kNotCached,  // there was nothing to judge: no sample
  kWait,       // a suspect: look again once evictd has acknowledged what this look saw
};
struct Decision {
  NextStep step = NextStep::kDone;
  AuditOutcome outcome = AuditOutcome::kFresh;
  std::string reason;
};

Decision judge_first(const Look& look);
// `first` was a suspect, and evictd has acknowledged all that `first` saw.
Decision judge_again(const Look& first, const Look& second);

// How far a clean sample carries: with `samples` and none of them stale, at most this share is stale, with 95 %
// confidence (the rule of three). 1 without samples.
double stale_share_at_most(std::uint64_t samples);
// "99.7 % or more are fresh (2.5 nines, from 1000 samples)": no more than the sample carries.
std::string nines_text(std::uint64_t fresh, std::uint64_t stale);

}  // namespace evictd
