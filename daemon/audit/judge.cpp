#include "daemon/audit/judge.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "mapping/row_version.h"

namespace evictd {
namespace {

constexpr std::uint64_t kRound = 1ULL << 32;
constexpr std::uint64_t kFirstNormalXid = 3;  // below: bootstrap and frozen
// A lifetime is read in two steps, and Redis's clock goes on between them.
constexpr std::int64_t kExpiryTolerance = 20;

Judgement fresh() { return {AuditVerdict::kFresh, ""}; }
Judgement suspect(std::string reason) { return {AuditVerdict::kSuspect, std::move(reason)}; }
Judgement unknown(std::string reason) { return {AuditVerdict::kUnknown, std::move(reason)}; }

// "f <version> <filled> ...": the marker of a checked fill.
struct FillMarker {
  std::string_view version;
  std::int64_t filled = 0;
};
std::optional<FillMarker> parse_fill(std::string_view marker) {
  if (!marker.starts_with("f ")) return std::nullopt;
  const std::size_t version_end = marker.find(' ', 2);
  if (version_end == std::string_view::npos) return std::nullopt;
  const std::size_t filled_end = std::min(marker.find(' ', version_end + 1), marker.size());
  FillMarker fill;
  fill.version = marker.substr(2, version_end - 2);
  const char* begin = marker.data() + version_end + 1;
  const char* end = marker.data() + filled_end;
  const auto [at, error] = std::from_chars(begin, end, fill.filled);
  if (error != std::errc() || at != end || fill.version.empty()) return std::nullopt;
  return fill;
}

// What the row says of a value that was read under `seen`. A snapshot speaks of transactions, not of their
// subtransactions, and the row may have been written by one: its id lies above that of its transaction. So an id that
// the snapshot does not count as running is proof only when no transaction with a lower id was running.
Judgement judge_row(const Snapshot& seen, bool is_bare, const AuditedRow& row, const Snapshot& now) {
  if (row.xmin < kFirstNormalXid) return fresh();
  const std::optional<Xid> xid = xmin_of_row(row.xmin, now);
  if (!xid) return unknown("the row's xmin is of no transaction that this database can have had: it is frozen");
  if (*xid < seen.xmin()) return fresh();
  const std::string who = fmt::format("transaction {}", number(*xid));
  if (is_bare) {
    return unknown("the value's token says 'all below " + std::to_string(number(seen.xmin())) + "' (a standby's, or a very long "
                   "snapshot), and the row was written later than that");
  }
  if (seen.sees(*xid)) {
    const std::vector<Xid>& running = seen.in_progress();
    if (running.empty() || running.front() > *xid) return fresh();
    return unknown("the row's writer may be a subtransaction of one that was running when the value was read");
  }
  if (xids_have_wrapped(now)) {
    return unknown("the row's xmin may be of a round of transaction ids ago: only a query can tell");
  }
  return suspect(fmt::format("its row was written by {}, which the value's snapshot {} has not seen", who, seen.to_string()));
}

bool looks_like_a_number(std::string_view text) {
  return !text.empty() && text.find_first_of("0123456789") != std::string_view::npos &&
         text.find_first_not_of("0123456789+-.eE") == std::string_view::npos;
}

// A part of a cached JSON, as text, and a column as PostgreSQL prints it. `is_number`: one of the two is no text, so that '1.10' and '1.1'
// are the same.
bool is_same_part(const std::string& part, const std::string& column, bool is_number, JsonReader& json) {
  if (part == column) return true;
  if (part == "true") return column == "t";
  if (part == "false") return column == "f";
  if (looks_like_a_number(part) && looks_like_a_number(column)) {
    return is_number && json_number_text(part) == json_number_text(column);
  }
  if (part.starts_with('{') || part.starts_with('[')) return json.same(part, column) == JsonSame::kSame;
  return false;
}

Judgement judge_paths(const AuditInfo& audit, std::string_view value, const AuditAnswer& answer, JsonReader& json) {
  Judgement judgement = fresh();
  for (const AuditPath& path : audit.paths) {
    const auto at = std::find(answer.columns.begin(), answer.columns.end(), path.column);
    if (at == answer.columns.end()) {
      return unknown(fmt::format("the audit's query has no column '{}'", path.column));
    }
    const std::optional<std::string>& column = answer.values[static_cast<std::size_t>(at - answer.columns.begin())];
    std::string part;
    bool is_string = false;
    const JsonFound found = json.find(value, path.path, part, &is_string);
    if (found == JsonFound::kInvalid) return unknown("the cached value is no JSON");
    const bool is_null = found == JsonFound::kNull;
    const bool is_number = !is_string || answer.are_numbers[static_cast<std::size_t>(at - answer.columns.begin())];
    if (is_null ? !column : column && is_same_part(part, *column, is_number, json)) continue;
    std::string name;
    for (const std::string& step : path.path) name += (name.empty() ? "" : ".") + step;
    judgement = suspect(fmt::format("'{}' of the value is not the database's '{}'", name, path.column));
  }
  return judgement;
}

}  // namespace

bool Presence::looks_like(const Presence& other) const {
  return is_there == other.is_there && value == other.value && marker == other.marker;
}

bool Presence::is_same_fill(const Presence& other) const {
  if (!looks_like(other)) return false;
  if (parse_fill(marker)) return true;
  return expires_at_ms != 0 && other.expires_at_ms != 0 && std::llabs(expires_at_ms - other.expires_at_ms) <= kExpiryTolerance;
}

std::optional<Xid> xmin_of_row(std::uint32_t xmin, const Snapshot& snapshot) {
  const std::uint64_t last = number(snapshot.xmax()) - 1;
  const std::uint64_t back = (last - xmin) % kRound;
  if (back > last || last - back < kFirstNormalXid) return std::nullopt;
  return Xid{last - back};
}

bool xids_have_wrapped(const Snapshot& snapshot) { return number(snapshot.xmax()) >= kRound; }

Judgement judge_marker(const RuleInfo& rule, std::string_view marker, std::int64_t filled_since, const AuditFacts& facts) {
  const std::optional<FillMarker> fill = parse_fill(marker);
  if (!fill) {
    return unknown(marker.empty() ? "it has no marker: it was not stored by evictd_fill, or the marker was evicted"
                                  : "its marker is not that of a fill: it was not stored by evictd_fill");
  }
  if (fill->filled < filled_since) return unknown("it was filled under another history of the database");
  if (!facts.rows_were_read) return unknown("its row cannot be looked up: the key has no unique index, and the rule no 'audit'");
  if (facts.rows.empty()) return unknown("no row has this key (it was deleted, or its absence is cached): only a query can tell");
  if (fill->version.starts_with('v')) {
    const std::string seen(fill->version.substr(1));
    Judgement judgement = fresh();
    for (const AuditedRow& row : facts.rows) {
      if (rule.version_column.empty() || row.row_version.empty()) return unknown("the row has no version to compare with");
      const std::optional<std::string> row_order = row_version_order(row.row_version);
      const std::optional<std::string> seen_order = row_version_order(seen);
      // The first two bytes tell the kind.
      if (!row_order || !seen_order || row_order->substr(0, 2) != seen_order->substr(0, 2)) {
        return unknown(fmt::format("its version {} and the row's {} do not compare", seen, row.row_version));
      }
      if (!row_version_reaches(seen, row.row_version)) {
        judgement = suspect(fmt::format("it was filled with version {}, the row has {}", seen, row.row_version));
      }
    }
    return judgement;
  }
  const bool is_bare = fill->version.find(':') == std::string_view::npos;
  const std::string text = is_bare ? fmt::format("{0}:{0}:", fill->version) : std::string(fill->version);
  const Result<Snapshot> seen = Snapshot::parse(text);
  if (!seen) return unknown(fill->version == "-" ? "it was filled by lease, which says nothing of what it contains"
                                                 : "its marker cannot be read");
  if (is_bare && number(seen->xmin()) > number(facts.snapshot.xmax())) return unknown("its snapshot is of another database");
  if (number(seen->xmax()) > number(facts.snapshot.xmax())) {
    return unknown("its snapshot is later than the database: of another database, or filled this moment");
  }
  Judgement judgement = fresh();
  for (const AuditedRow& row : facts.rows) {
    Judgement one = judge_row(*seen, is_bare, row, facts.snapshot);
    if (one.verdict == AuditVerdict::kSuspect) return one;
    if (one.verdict == AuditVerdict::kUnknown) judgement = std::move(one);
  }
  return judgement;
}

Judgement judge_content(const RuleInfo& rule, std::string_view value, const AuditAnswer& answer, JsonReader& json) {
  if (rule.audit.compare == AuditCompare::kPaths) return judge_paths(rule.audit, value, answer, json);
  const std::string_view whose = rule.audit.is_of_refresh ? "the query of 'refresh'" : "the audit's query";
  if (answer.values.size() != 1 && !rule.audit.is_of_refresh) {  // behind a refresh's value there may be its tags
    return unknown(fmt::format("expected one column behind the key's own in the audit's answer, got {}", answer.values.size()));
  }
  const std::optional<std::string>& wanted = answer.values[0];
  if (!wanted && rule.audit.is_of_refresh) return unknown("the query of 'refresh' has no value for it, and readers may have one");
  if (!wanted) return suspect("the audit's query says that nothing may be cached for this key");
  const auto judge_text = [&] { return value == *wanted ? fresh() : suspect(fmt::format("it is not the text that {} answers with", whose)); };
  if (rule.audit.compare == AuditCompare::kText) return judge_text();
  switch (json.same(value, *wanted)) {
    case JsonSame::kSame:
      return fresh();
    case JsonSame::kFirstInvalid:
      if (rule.audit.compare == AuditCompare::kJsonOrText) return judge_text();
      return unknown("the cached value is no JSON");
    case JsonSame::kSecondInvalid:
      if (rule.audit.compare == AuditCompare::kJsonOrText) return judge_text();
      return unknown(fmt::format("what {} answers with is no JSON", whose));
    case JsonSame::kDifferent:
      break;
  }
  return suspect(fmt::format("it is not the JSON that {} answers with", whose));
}

namespace {

// Such a tag's invalidation leaves the value where it is, and readers, who ask for the tag, are not given it.
bool may_be_under_lazy_tags(const RuleInfo& rule, const AuditAnswer& answer) {
  if (rule.tags_mode == TagsMode::kLazy) return true;
  return rule.audit.is_of_refresh && std::find(answer.columns.begin(), answer.columns.end(), "lazy_tags") != answer.columns.end();
}

}  // namespace

Judgement judge(const RuleInfo& rule, const Presence& presence, std::int64_t filled_since, const AuditFacts& facts,
                JsonReader& json) {
  if (!presence.problem.empty()) return unknown(presence.problem);
  if (facts.has_query && !facts.answer) return unknown(facts.problem);
  if (facts.has_query) {
    Judgement judgement = judge_content(rule, presence.value, *facts.answer, json);
    if (judgement.verdict != AuditVerdict::kSuspect || !may_be_under_lazy_tags(rule, *facts.answer)) return judgement;
    return unknown(judgement.reason + "; but a lazy tag may keep it from readers, and which tags it has is known to them alone");
  }
  if (!facts.problem.empty()) return unknown(facts.problem);
  Judgement judgement = judge_marker(rule, presence.marker, filled_since, facts);
  if (judgement.verdict != AuditVerdict::kFresh || facts.unproven.empty()) return judgement;
  return unknown("it is as new as its row, but " + facts.unproven);
}

namespace {

bool has_own_key(const RuleInfo& rule) {
  std::size_t joined = 0;
  for (const LookupInfo& lookup : rule.lookups) {
    joined += static_cast<std::size_t>(std::count_if(lookup.templates.begin(), lookup.templates.end(),
                                                     [&](std::uint32_t pattern) { return pattern < rule.key_templates.size(); }));
  }
  return joined < rule.key_templates.size();
}

}  // namespace

std::string why_not_audited(const RuleInfo& rule, bool passes_over_updates) {
  if (rule.key_templates.empty()) return "it has no 'keys'";
  if (!rule.implied_by.empty()) return fmt::format("its keys are those of rule '{}'", rule.implied_by);
  if (!rule.audit.query.empty()) return "";
  if (rule.fill == FillMode::kPlain) return "plain values say nothing of what they contain: give it an 'audit' with a query";
  if (!rule.is_on(Operation::kInsert) || !rule.is_on(Operation::kUpdate)) {
    return "its 'on' passes over changes, so a row that changed proves nothing: give it an 'audit' with a query";
  }
  if (passes_over_updates) {
    return "it passes over some updates ('when_changed', 'ignore_changed', 'crosses'), so a row that changed proves nothing: give it an 'audit' with a query";
  }
  if (!has_own_key(rule)) return "its keys are of joined tables, whose rows no marker tells of: give it an 'audit' with a query";
  return "";
}

std::string_view audit_outcome_name(AuditOutcome outcome) {
  switch (outcome) {
    case AuditOutcome::kFresh:
      return "fresh";
    case AuditOutcome::kStale:
      return "stale";
    case AuditOutcome::kInFlight:
      return "in_flight";
    case AuditOutcome::kUnreadable:
      break;
  }
  return "unreadable";
}

Decision judge_first(const Look& look) {
  if (!look.before.is_there) return {NextStep::kNotCached, AuditOutcome::kFresh, ""};
  switch (look.judgement.verdict) {
    case AuditVerdict::kFresh:
      return {NextStep::kDone, AuditOutcome::kFresh, ""};
    case AuditVerdict::kUnknown:
      return {NextStep::kDone, AuditOutcome::kUnreadable, look.judgement.reason};
    case AuditVerdict::kSuspect:
      break;
  }
  if (!look.before.looks_like(look.after)) {
    return {NextStep::kDone, AuditOutcome::kInFlight, "it was deleted or filled while it was looked at"};
  }
  return {NextStep::kWait, AuditOutcome::kInFlight, look.judgement.reason};
}

Decision judge_again(const Look& first, const Look& second) {
  if (!second.before.is_there || !first.before.looks_like(second.before)) {
    return {NextStep::kDone, AuditOutcome::kInFlight, "it has been deleted since"};
  }
  if (second.judgement.verdict == AuditVerdict::kFresh) return {NextStep::kDone, AuditOutcome::kFresh, ""};
  if (second.judgement.verdict == AuditVerdict::kUnknown) {
    return {NextStep::kDone, AuditOutcome::kUnreadable, second.judgement.reason};
  }
  if (!second.before.looks_like(second.after)) {
    return {NextStep::kDone, AuditOutcome::kInFlight, "it was deleted or filled while it was looked at"};
  }
  if (first.before.is_same_fill(second.before)) return {NextStep::kDone, AuditOutcome::kStale, second.judgement.reason};
  // The same text may have been stored anew, rightly, while the database went there and back. It was not where nothing
  // in the database has changed between the two looks. With a lifetime that is another one it may be either: a row that was not written
  // since tells, where the value is made of nothing else.
  const bool has_lifetime = first.before.expires_at_ms != 0 || second.before.expires_at_ms != 0;
  const bool is_row_all = first.facts.is_of_these_rows_alone && second.facts.is_of_these_rows_alone && !first.facts.rows.empty();
  if (has_lifetime && !is_row_all) return {NextStep::kDone, AuditOutcome::kInFlight, "it was stored anew, or its life prolonged, since"};
  const auto same_rows = [](const AuditedRow& a, const AuditedRow& b) { return a.xmin == b.xmin; };
  const bool is_same_answer = first.facts.answer.has_value() == second.facts.answer.has_value() &&
                              (!first.facts.answer || first.facts.answer->values == second.facts.answer->values);
  const bool are_same_rows = std::equal(first.facts.rows.begin(), first.facts.rows.end(), second.facts.rows.begin(),
                                        second.facts.rows.end(), same_rows);
  if (is_same_answer && are_same_rows) return {NextStep::kDone, AuditOutcome::kStale, second.judgement.reason};
  return {NextStep::kWait, AuditOutcome::kInFlight, "its row changes all the time"};
}

double stale_share_at_most(std::uint64_t samples) {
  return samples == 0 ? 1.0 : std::min(1.0, 3.0 / static_cast<double>(samples));
}

std::string nines_text(std::uint64_t fresh_count, std::uint64_t stale_count) {
  const std::uint64_t samples = fresh_count + stale_count;
  if (samples == 0) return "nothing was judged: this says nothing of the cache";
  if (stale_count > 0) {
    return fmt::format("{} of {} judged values are stale ({:.3g} %)", stale_count, samples,
                       100.0 * static_cast<double>(stale_count) / static_cast<double>(samples));
  }
  const double share = stale_share_at_most(samples);
  const double nines = std::floor(-std::log10(share) * 10) / 10;
  const std::string percent = share >= 0.1 ? fmt::format("{:.0f}", 100 * share) : fmt::format("{:.2g}", 100 * share);
  return fmt::format("none of {} judged values is stale: at most {} % are, with 95 % confidence ({:.1f} nines; a sample of "
                     "this size carries no more)",
                     samples, percent, nines + 0.0);
}

}  // namespace evictd
