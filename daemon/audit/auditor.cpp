#include "daemon/audit/auditor.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <random>

#include "daemon/interface/source.h"

namespace evictd {
namespace {

constexpr std::size_t kRowsPerDraw = 200;
constexpr int kBarrenDrawsMax = 3;
constexpr std::chrono::milliseconds kBetweenPages{1};
constexpr std::chrono::milliseconds kBetweenReviews{100};
constexpr std::size_t kMetMax = 2'000'000;

// Each rule that makes a key vouches for rows of its own.
std::string met_name(std::uint32_t rule, const std::string& key) { return std::to_string(rule) + ' ' + key; }

constexpr std::string_view kGiveItAQuery = ": give its rule an 'audit' with a query";

}  // namespace

void AuditCounts::add(AuditOutcome outcome) {
  switch (outcome) {
    case AuditOutcome::kFresh:
      ++fresh;
      return;
    case AuditOutcome::kStale:
      ++stale;
      return;
    case AuditOutcome::kInFlight:
      ++in_flight;
      return;
    case AuditOutcome::kUnreadable:
      ++unreadable;
  }
}

Auditor::Auditor(const RuleSet& rules, std::vector<bool> acts, AuditDatabase& database, AuditCache& cache, AuditOptions options,
                 OnFinding on_finding, Sleep sleep)
    : rules_(rules),
      acts_(std::move(acts)),
      database_(database),
      cache_(cache),
      options_(options),
      on_finding_(std::move(on_finding)),
      sleep_(std::move(sleep)) {
  begin_pass();
}

void Auditor::begin_pass() {
  origins_.clear();
  met_.clear();
  next_ = 0;
  std::random_device random;
  for (std::uint32_t rule = 0; rule < rules_.rules().size(); ++rule) {
    const AuditPlan& plan = database_.plan(rule);
    if (!acts_[rule] || !plan.problem.empty()) continue;
    bool wants_rows = false;
    for (std::size_t shape = 0; shape < plan.shapes.size(); ++shape) {
      if (!plan.can_scan(shape, rules_.rules()[rule])) {
        wants_rows |= plan.shapes[shape].is_of_own_row;
        continue;
      }
      Origin& origin = origins_.emplace_back();
      origin.rule = rule;
      origin.shape = shape;
      origin.cursor = (std::uint64_t{random()} << 16) ^ random();  // a walk may begin anywhere
    }
    // Of keys that tell nothing of their columns, only those whose row was met can be judged.
    const bool can_judge_rows = !rules_.rules()[rule].audit.query.empty() || !plan.primary_key.empty();
    if (wants_rows && can_judge_rows) origins_.emplace_back().rule = rule;
  }
}

Result<void> Auditor::fill(Origin& origin) {
  if (met_.size() > kMetMax) met_.clear();
  if (!origin.shape) {
    Result<std::vector<AuditSample>> drawn = database_.draw_rows(origin.rule, kRowsPerDraw);
    if (!drawn) return tl::unexpected(drawn.error());
    const std::size_t before = met_.size();
    for (AuditSample& sample : *drawn) {
      if (met_.insert(met_name(origin.rule, sample.key)).second) origin.waiting.push_back(std::move(sample));
    }
    origin.barren = met_.size() == before ? origin.barren + 1 : 0;
    if (origin.barren >= kBarrenDrawsMax) origin.is_over = true;
    return {};
  }
  const KeyShape& shape = database_.plan(origin.rule).shapes[*origin.shape];
  const bool is_only = database_.plan(origin.rule).shapes.size() == 1;
  Result<AuditCache::Page> page = cache_.scan(shape.glob, origin.cursor);
  if (!page) return tl::unexpected(page.error());
  origin.cursor = page->cursor;
  // It began somewhere in the middle: once around is twice at the end.
  if (page->cursor == 0 && ++origin.wraps == 2) origin.is_over = true;
  for (std::string& key : page->keys) {
    std::optional<std::vector<std::string>> texts = shape.read(key);
    if (!texts || !met_.insert(met_name(origin.rule, key)).second) continue;
    AuditSample& sample = origin.waiting.emplace_back();
    sample.rule = origin.rule;
    sample.shape = origin.shape;
    if (is_only) sample.texts = std::move(*texts);
    sample.key = std::move(key);
  }
  return {};
}

Result<bool> Auditor::draw() {
  for (std::size_t tried = 0; tried < origins_.size(); ++tried) {
    Origin& origin = origins_[next_];
    next_ = (next_ + 1) % origins_.size();
    while (origin.waiting.size() < options_.keys_per_look && !origin.is_over) {
      if (!origin.shape && !pace()) return false;
      if (Result<void> filled = fill(origin); !filled) return tl::unexpected(filled.error());
      if (!sleep_(kBetweenPages)) {
        stopped_ = true;
        return false;
      }
      if (Result<void> done = review(); !done) return tl::unexpected(done.error());
    }
    if (origin.waiting.empty()) continue;
    std::vector<AuditSample> samples;
    while (!origin.waiting.empty() && samples.size() < options_.keys_per_look) {
      samples.push_back(std::move(origin.waiting.front()));
      origin.waiting.pop_front();
    }
    if (Result<void> done = examine(origin.rule, std::move(samples)); !done) return tl::unexpected(done.error());
    return !stopped_;
  }
  begin_pass();
  return false;
}

Result<std::optional<AuditMoment>> Auditor::look(std::uint32_t rule, const std::vector<AuditSample>& samples,
                                                 std::vector<Look>& looks) {
  if (!pace()) return std::optional<AuditMoment>();
  std::vector<std::string> keys;
  for (const AuditSample& sample : samples) keys.push_back(sample.key);
  const bool with_values = !rules_.rules()[rule].audit.query.empty();
  Result<std::vector<Presence>> before = cache_.look(keys, with_values);
  if (!before) return tl::unexpected(before.error());
  // What is not cached is not asked for.
  std::vector<AuditSample> cached;
  std::vector<std::size_t> at;
  looks.assign(samples.size(), Look{});
  for (std::size_t i = 0; i < samples.size(); ++i) {
    looks[i].before = std::move((*before)[i]);
    if (!looks[i].before.is_there) continue;
    cached.push_back(samples[i]);
    at.push_back(i);
  }
  if (cached.empty()) return std::optional<AuditMoment>(AuditMoment{});
  Result<AuditDatabase::Seen> seen = database_.look(rule, cached);
  if (!seen) return tl::unexpected(seen.error());
  Result<std::vector<Presence>> after = cache_.look(keys, with_values);
  if (!after) return tl::unexpected(after.error());
  for (std::size_t i = 0; i < at.size(); ++i) {
    Look& look = looks[at[i]];
    look.after = std::move((*after)[at[i]]);
    look.facts = std::move(seen->facts[i]);
    tell_what_else(rule, cached[i].key, look.facts);
    look.judgement = judge(rules_.rules()[rule], look.before, filled_since_, look.facts, json_);
  }
  return std::optional<AuditMoment>(std::move(seen->moment));
}

void Auditor::tell_what_else(std::uint32_t rule, const std::string& key, AuditFacts& facts) const {
  const std::vector<KeyShape>& own = database_.plan(rule).shapes;
  std::size_t index = 0;  // of the shape in its rule
  for (std::size_t i = 0; i < options_.shapes.size(); ++i) {
    const KeyShape& shape = options_.shapes[i];
    index = i > 0 && options_.shapes[i - 1].rule == shape.rule ? index + 1 : 0;
    if (!shape.may_be(key)) continue;
    // 'user:7:orders' is not taken for 'user:{user.id}', as it is not for 'user:{id}'; a key of the very same pattern is.
    const bool is_same = std::any_of(own.begin(), own.end(), [&](const KeyShape& one) { return one.glob == shape.glob; });
    if (!is_same && shape.is_readable && !shape.read(key)) continue;
    const AuditPlan& plan = database_.plan(shape.rule);
    const bool is_one_row = plan.problem.empty() && plan.names_one_row[index];
    if (shape.rule == rule && shape.is_of_own_row && is_one_row) continue;
    facts.is_of_these_rows_alone = false;
    const std::string& name = rules_.rules()[shape.rule].name;
    if (!facts.unproven.empty()) continue;
    if (!shape.is_of_own_row) {
      facts.unproven = fmt::format("rule '{}' makes this key of a joined table as well, whose rows no marker tells of{}", name, kGiveItAQuery);
    } else if (shape.rule == rule) {
      facts.unproven = fmt::format("several rows may make this key, by no unique index, and no marker tells of one that is gone{}", kGiveItAQuery);
    } else if (!plan.problem.empty() || !plan.can_scan(index, rules_.rules()[shape.rule])) {
      // Otherwise that rule judges the key by itself.
      facts.unproven = fmt::format("rule '{}' makes this key as well, of rows that its marker is not compared with{}", name, kGiveItAQuery);
    }
  }
}

Result<void> Auditor::examine(std::uint32_t rule, std::vector<AuditSample> samples) {
  if (!record_) {
    if (Result<void> done = read_record(); !done) return done;
  }
  std::vector<Look> looks;
  const Result<std::optional<AuditMoment>> moment = look(rule, samples, looks);
  if (!moment) return tl::unexpected(moment.error());
  if (!*moment) return {};
  const SteadyTime now = std::chrono::steady_clock::now();
  for (std::size_t i = 0; i < samples.size(); ++i) {
    Decision decision = judge_first(looks[i]);
    if (decision.step == NextStep::kNotCached) continue;
    if (decision.step == NextStep::kDone) {
      conclude(samples[i], looks[i], decision, now);
    } else if (suspects_.size() >= options_.suspects_max) {
      decision.reason = "more values are older than their rows than can be looked at again";
      conclude(samples[i], looks[i], decision, now);
      ++behind_;
      behind_reason_ = decision.reason;
    } else {
      const auto patience = options_.patience + rules_.rules()[rule].settle;
      suspects_.push_back({std::move(samples[i]), std::move(looks[i]), (*moment)->wal, now, now + patience});
    }
  }
  return review();
}

Result<void> Auditor::read_record() {
  Result<std::optional<Record>> record = cache_.record();
  if (!record) return tl::unexpected(record.error());
  record_ = std::move(*record);
  filled_since_ = record_ ? record_->epoch_since.count() : 0;
  return {};
}

std::string Auditor::why_not_yet(Lsn wal) const {
  if (!record_) return "evictd has no record in this cache";
  if (!record_->gaps.empty()) return fmt::format("evictd is repairing a gap ({})", *record_->gaps.begin());
  if (!database_.epoch().empty() && record_->epoch != database_.epoch()) {
    return fmt::format("evictd follows the history '{}', the database is in '{}'", record_->epoch, database_.epoch());
  }
  const auto at = record_->acknowledged.find(kOnlyStream);
  const Lsn acknowledged{at == record_->acknowledged.end() ? 0 : at->second};
  if (acknowledged < wal) return fmt::format("evictd has acknowledged {}, and has to come to {}", acknowledged.to_string(), wal.to_string());
  return "";
}

Result<void> Auditor::review() {
  if (suspects_.empty()) return {};
  if (Result<void> done = read_record(); !done) return done;
  std::map<std::uint32_t, std::vector<Suspect>> due;
  std::deque<Suspect> rest;
  const SteadyTime now = std::chrono::steady_clock::now();
  for (Suspect& suspect : suspects_) {
    const std::string reason = why_not_yet(suspect.wal);
    auto& batch = due[suspect.sample.rule];
    if (reason.empty() && batch.size() < options_.keys_per_look) {
      batch.push_back(std::move(suspect));
    } else if (!reason.empty() && now >= suspect.let_go_at) {
      conclude(suspect.sample, suspect.look, {NextStep::kDone, AuditOutcome::kInFlight, reason}, suspect.first_seen);
      ++behind_;
      behind_reason_ = reason;
    } else {
      rest.push_back(std::move(suspect));
    }
  }
  suspects_ = std::move(rest);
  for (auto& [rule, batch] : due) {
    if (batch.empty()) continue;
    std::vector<AuditSample> samples;
    for (const Suspect& suspect : batch) samples.push_back(suspect.sample);
    std::vector<Look> looks;
    const Result<std::optional<AuditMoment>> moment = look(rule, samples, looks);
    if (!moment) return tl::unexpected(moment.error());
    if (!*moment) {
      std::move(batch.begin(), batch.end(), std::back_inserter(suspects_));
      continue;
    }
    for (std::size_t i = 0; i < batch.size(); ++i) {
      const Decision decision = judge_again(batch[i].look, looks[i]);
      if (decision.step == NextStep::kWait && now < batch[i].let_go_at) {
        batch[i].look = std::move(looks[i]);
        batch[i].wal = (*moment)->wal;
        suspects_.push_back(std::move(batch[i]));
      } else {
        conclude(batch[i].sample, looks[i], decision, batch[i].first_seen);
      }
    }
  }
  return {};
}

Result<void> Auditor::finish() {
  while (!suspects_.empty() && !stopped_) {
    if (Result<void> done = review(); !done) return done;
    if (suspects_.empty()) break;
    if (!sleep_(kBetweenReviews)) stopped_ = true;
  }
  let_go();
  return {};
}

void Auditor::let_go() {
  for (const Suspect& suspect : suspects_) {
    conclude(suspect.sample, suspect.look, {NextStep::kDone, AuditOutcome::kInFlight, "the audit ended before evictd had acknowledged it"},
             suspect.first_seen);
  }
  suspects_.clear();
}

void Auditor::conclude(const AuditSample& sample, const Look& look, const Decision& decision, SteadyTime since) {
  counts_.add(decision.outcome);
  by_rule_[sample.rule].add(decision.outcome);
  AuditFinding finding;
  finding.rule = sample.rule;
  finding.key = sample.key;
  finding.outcome = decision.outcome;
  finding.reason = decision.reason;
  finding.marker = look.before.marker;
  finding.suspect_for = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - since);
  if (decision.outcome == AuditOutcome::kStale && options_.fix) {
    const Result<void> fixed = fix(sample, look);
    finding.is_fixed = fixed.has_value();
    if (!fixed) finding.reason += "; it could not be deleted: " + fixed.error().text;
  }
  on_finding_(finding);
}

Result<void> Auditor::fix(const AuditSample& sample, const Look& look) {
  const Snapshot& seen = look.facts.snapshot;
  // What a fill has to have seen: the transaction that is proven to be missing; where none is known, all that had begun.
  std::uint64_t floor = number(seen.xmax()) - 1;
  std::string more;
  std::optional<Xid> writer;
  for (const AuditedRow& row : look.facts.rows) {
    if (const std::optional<Xid> xid = xmin_of_row(row.xmin, seen)) writer = std::max(writer.value_or(Xid{0}), *xid);
  }
  if (writer && !look.facts.has_query && !xids_have_wrapped(seen)) {
    floor = number(seen.xmin()) - 1;
    if (number(*writer) > floor) more = fmt::format(",{}", number(*writer));
  }
  std::string tokens = fmt::format("^{}{}", floor, more);
  if (!look.facts.rows.empty() && !look.facts.rows[0].row_version.empty()) tokens = "v" + look.facts.rows[0].row_version;
  return cache_.fix(rules_.rules()[sample.rule], sample.key, record_ ? record_->epoch : "", tokens);
}

bool Auditor::pace() {
  const SteadyTime now = std::chrono::steady_clock::now();
  const std::uint64_t asked = database_.questions() - asked_;
  asked_ = database_.questions();
  const auto cost = std::chrono::duration<double>(static_cast<double>(asked) / options_.questions_per_second);
  next_question_ = std::max(next_question_, now) + std::chrono::duration_cast<SteadyTime::duration>(cost);
  while (!stopped_) {
    const auto left = next_question_ - std::chrono::steady_clock::now();
    if (left <= SteadyTime::duration::zero()) break;
    if (!sleep_(std::chrono::duration_cast<std::chrono::milliseconds>(left) + std::chrono::milliseconds(1))) stopped_ = true;
  }
  return !stopped_;
}

}  // namespace evictd
