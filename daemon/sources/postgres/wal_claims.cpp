#include "daemon/sources/postgres/wal_claims.h"

#include <fmt/format.h>

#include <algorithm>

namespace evictd {

void WalClaims::connecting() {
  superseded();
  contradictions_ = 0;
  proven_ = Lsn{};
}

void WalClaims::reaches(Lsn end) { proven_ = std::max(proven_, end); }

void WalClaims::superseded() {
  claimed_.reset();
  claim_number_ = 0;
}

WalClaims::Slot WalClaims::slot_stands_at(Lsn confirmed, Lsn wal_end) {
  reaches(wal_end);
  if (confirmed <= proven_) return Slot::kBelieved;
  return ++contradictions_ < kContradictionsMax ? Slot::kAskAgain : Slot::kRefused;
}

WalClaims::Keepalive WalClaims::keepalive(Lsn end, bool nobody_answers) {
  Keepalive result;
  if (end <= proven_) {
    result.believed = believe(end);
    return result;
  }
  if (nobody_answers) {
    if (claimed_ && *claimed_ <= end) {
      reaches(*claimed_);
      result.believed = believe(*claimed_);
      if (end <= proven_) return result;
    }
    result.needs_another = true;
  }
  claimed_ = end;
  return result;
}

Lsn WalClaims::believe(Lsn end) {
  superseded();
  contradictions_ = 0;
  return end;
}

std::optional<SteadyTime> WalClaims::ask_at() const {
  if (!claimed_ || claim_number_ != 0) return std::nullopt;
  return claim_at_;
}

void WalClaims::asked(std::uint64_t number, SteadyTime now) {
  claim_number_ = number;
  asked_about_ = *claimed_;
  claim_at_ = now + kAskInterval;
}

WalClaims::Proof WalClaims::snapshot(std::uint64_t number, Lsn wal_end) {
  Proof result;
  reaches(wal_end);
  if (!claimed_) return result;
  if (*claimed_ <= proven_) {
    result.believed = believe(*claimed_);
    return result;
  }
  if (claim_number_ == 0 || number < claim_number_) return result;
  claim_number_ = 0;
  if (asked_about_ <= proven_) {  // a later one came while that was on its way
    contradictions_ = 0;
    result.believed = asked_about_;
    return result;
  }
  if (++contradictions_ < kContradictionsMax) return result;
  result.lie = fmt::format("the stream claims to have sent everything up to {}, but the server's WAL ends at {}: not believed",
                           claimed_->to_string(), proven_.to_string());
  return result;
}

}  // namespace evictd
