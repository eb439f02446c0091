#include "daemon/flow/found_rows.h"

namespace evictd {

FoundRows::FoundRows(const LookupAnswer& answer, std::size_t items) : outcome_(answer.outcome), rows_(items) {
  for (const LookupAnswer::Row& row : answer.rows) rows_.at(row.item).push_back(&row);
}

bool FoundRows::is_over(std::size_t item, const RuleInfo& rule) const {
  return outcome_ != LookupAnswer::Outcome::kFound || rows_.at(item).size() > rule.fan_out;
}

void map_found(const LookupAnswer::Row& row, Mapper& mapper, InvalidationReceiver& receiver) {
  std::vector<Value> values;
  values.reserve(row.values.size());
  for (const auto& value : row.values) values.push_back(value ? Value{ValueState::kText, *value} : Value{ValueState::kNull, {}});
  mapper.map_found(values, receiver);
}

}  // namespace evictd
