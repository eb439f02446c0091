#include "daemon/refresh/refresher.h"

#include <fmt/format.h>

#include <unordered_map>

#include "mapping/check.h"

namespace evictd {

std::string_view refresh_outcome_name(RefreshOutcome outcome) {
  switch (outcome) {
    case RefreshOutcome::kFilled:
      return "filled";
    case RefreshOutcome::kTold:
      return "told";
    case RefreshOutcome::kFresh:
      return "fresh";
    case RefreshOutcome::kBusy:
      return "busy";
    case RefreshOutcome::kAbsent:
      return "absent";
    case RefreshOutcome::kTooLong:
      return "too_long";
    case RefreshOutcome::kRejected:
      return "rejected";
    case RefreshOutcome::kUnreadable:
      return "unreadable";
    case RefreshOutcome::kFailed:
      return "failed";
    case RefreshOutcome::kDropped:
      return "dropped";
    case RefreshOutcome::kCoalesced:
      return "coalesced";
  }
  return "?";
}

Refresher::Refresher(const RuleSet& rules, RefreshDatabase& database, RefreshCache& cache)
    : rules_(rules), database_(database), cache_(cache) {}

Result<Refresher::Done> Refresher::work(std::uint32_t rule, const std::vector<std::string>& keys) {
  Done done;
  done.outcomes.assign(keys.size(), RefreshOutcome::kFailed);
  done.may_try_again.assign(keys.size(), false);
  // Before the leases: nobody is to wait for a database that is not there.
  if (Result<void> ready = database_.prepare(rule); !ready) {
    if (ready.error().kind == ErrorKind::kConnection) return tl::unexpected(ready.error());
    done.problem = ready.error().text;
    done.is_query_wrong = ready.error().kind == ErrorKind::kUsage;
    done.is_slow = !done.is_query_wrong;
    return done;
  }
  const KeyShape shape = refresh_key(rules_, rule).shape;
  std::vector<std::size_t> readable;
  std::vector<std::string> claimed;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (!shape.read(keys[i])) {
      done.outcomes[i] = RefreshOutcome::kUnreadable;
      continue;
    }
    readable.push_back(i);
    claimed.push_back(keys[i]);
  }
  if (claimed.empty()) return done;
  const Result<std::vector<RefreshCache::Claim>> claims = cache_.claim(claimed, kLease);
  if (!claims) return tl::unexpected(claims.error());
  std::vector<std::size_t> wanted;
  std::vector<std::string> leases(keys.size());
  for (std::size_t i = 0; i < claims->size(); ++i) {
    const RefreshCache::Claim& claim = (*claims)[i];
    const std::size_t at = readable[i];
    switch (claim.state) {
      case RefreshCache::Claim::State::kOurs:
        wanted.push_back(at);
        leases[at] = claim.lease;
        break;
      case RefreshCache::Claim::State::kFresh:
        done.outcomes[at] = RefreshOutcome::kFresh;
        break;
      case RefreshCache::Claim::State::kBusy:
        done.outcomes[at] = RefreshOutcome::kBusy;
        done.may_try_again[at] = true;  // the reader may die of it
        break;
      case RefreshCache::Claim::State::kRefused:
        done.problem = claim.problem;
        done.is_full = claim.is_full;
        break;
    }
  }
  if (wanted.empty()) return done;
  const Result<void> asked = ask(rule, keys, wanted, leases, done);
  // Whose lease was not ended by a fill.
  std::vector<RefreshCache::Lease> left;
  for (const std::size_t at : wanted) {
    const RefreshOutcome outcome = done.outcomes[at];
    if (outcome != RefreshOutcome::kFilled && outcome != RefreshOutcome::kRejected) left.push_back({keys[at], leases[at]});
  }
  const Result<void> released = cache_.release(left);
  if (!asked) return tl::unexpected(asked.error());
  if (!released) return tl::unexpected(released.error());
  return done;
}

Result<void> Refresher::ask(std::uint32_t rule, const std::vector<std::string>& keys, const std::vector<std::size_t>& wanted,
                            const std::vector<std::string>& leases, Done& done) {
  const KeyShape shape = refresh_key(rules_, rule).shape;
  std::vector<std::vector<std::string>> texts;
  std::unordered_map<std::string, std::size_t> place;
  for (const std::size_t at : wanted) {
    texts.push_back(*shape.read(keys[at]));
    place.emplace(keys[at], at);
  }
  const SteadyTime began = std::chrono::steady_clock::now();
  Result<RefreshAnswer> answer = database_.read(rule, texts);
  if (!answer && answer.error().kind == ErrorKind::kConnection) return tl::unexpected(answer.error());
  if (!answer && answer.error().kind == ErrorKind::kData && wanted.size() > 1) {
    // One of them spoils it for the others.
    for (const std::size_t at : wanted) {
      if (Result<void> one = ask(rule, keys, {at}, leases, done); !one) return one;
      if (done.is_slow || done.is_query_wrong) break;  // the leases would not last for the others
    }
    return {};
  }
  if (!answer) {
    done.problem = answer.error().text;
    done.is_query_wrong = answer.error().kind == ErrorKind::kUsage;
    done.is_slow = answer.error().kind == ErrorKind::kTransient;
    return {};
  }
  for (const std::size_t at : wanted) done.outcomes[at] = RefreshOutcome::kAbsent;
  std::unordered_map<std::string, std::size_t> times;
  for (const RefreshValue& value : answer->values) ++times[value.key];
  std::vector<RefreshValue> values;
  std::vector<std::size_t> filled;
  for (RefreshValue& value : answer->values) {
    const auto found = place.find(value.key);
    if (found == place.end()) {
      done.problem = fmt::format("the refresh query of rule '{}' answers for a key which it was not asked for", rules_.rules()[rule].name);
      continue;
    }
    const std::size_t at = found->second;
    if (times[value.key] > 1) {  // which of them it is would be chance
      done.outcomes[at] = RefreshOutcome::kFailed;
      done.problem = fmt::format("the refresh query of rule '{}' answers {} times for one key", rules_.rules()[rule].name, times[value.key]);
      continue;
    }
    if (!value.text) {
      if (value.is_too_long) done.outcomes[at] = RefreshOutcome::kTooLong;
      continue;
    }
    filled.push_back(at);
    values.push_back(std::move(value));
  }
  // Then it answers no other question either.
  if (!done.problem.empty() && filled.empty() && !answer->values.empty()) done.is_query_wrong = true;
  if (values.empty()) return {};
  const auto age = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - began);
  const Result<std::vector<RefreshCache::Filled>> stored = cache_.fill(rules_.rules()[rule].refresh, answer->token, age, values);
  if (!stored) return tl::unexpected(stored.error());
  for (std::size_t i = 0; i < filled.size(); ++i) {
    switch ((*stored)[i]) {
      case RefreshCache::Filled::kStored:
        done.outcomes[filled[i]] = RefreshOutcome::kFilled;
        break;
      case RefreshCache::Filled::kRejected:
        done.outcomes[filled[i]] = RefreshOutcome::kRejected;
        done.may_try_again[filled[i]] = true;
        break;
      case RefreshCache::Filled::kRefused:
        done.outcomes[filled[i]] = RefreshOutcome::kFailed;
        done.problem = "redis is full and takes no value";
        done.is_full = true;
        break;
      case RefreshCache::Filled::kWrongTag:
        done.outcomes[filled[i]] = RefreshOutcome::kFailed;
        done.problem = "'" + keys[filled[i]].substr(0, 100) + "' is not stored: the key of one of its tags is of another type than evictd_fill and evictd_join make ('TYPE tag:<name>' tells)";
        break;
    }
  }
  return {};
}

}  // namespace evictd
