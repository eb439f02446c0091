// What the answer of a lookup means for each row that was looked up: the one place that decides it, for the daemon
// (lookups.h) and for the commands that ask a live database the same. Pure; refers to the answer, which must outlive it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "daemon/interface/lookup.h"
#include "mapping/mapper.h"

namespace evictd {

class FoundRows {
 public:
  // `items`: how many rows were looked up. REQUIRES: every row of the answer names one of them.
  FoundRows(const LookupAnswer& answer, std::size_t items);

  // What the item leads to is unknown or more than the rule's fan_out: its on_overflow decides about the patterns, and
  // nothing of it is mapped.
  bool is_over(std::size_t item, const RuleInfo& rule) const;
  std::span<const LookupAnswer::Row* const> of(std::size_t item) const { return rows_.at(item); }

 private:
  LookupAnswer::Outcome outcome_;
  std::vector<std::vector<const LookupAnswer::Row*>> rows_;
};

// Gives the mapper one found row. REQUIRES: mapper.bind_found() of the answer's relation.
void map_found(const LookupAnswer::Row& row, Mapper& mapper, InvalidationReceiver& receiver);

}  // namespace evictd
