#include "daemon/app/row_keys.h"

#include <set>
#include <string>
#include <tuple>
#include <vector>

namespace evictd {
namespace {

// Passes on each text of a rule once, and none of what a whole table is purged for.
class Once final : public InvalidationReceiver {
 public:
  explicit Once(InvalidationReceiver& to) : to_(to) {}
  void key(std::uint32_t rule, std::string_view key) override {
    if (is_new(InvalidationKind::kKey, rule, key)) to_.key(rule, key);
  }
  void tag(std::uint32_t rule, std::string_view tag) override {
    if (is_new(InvalidationKind::kTag, rule, tag)) to_.tag(rule, tag);
  }
  void bump(std::uint32_t rule, std::string_view counter) override {
    if (is_new(InvalidationKind::kBump, rule, counter)) to_.bump(rule, counter);
  }
  void row_version(std::uint32_t, std::string_view) override {}
  void purge(std::uint32_t, std::uint32_t) override {}
  void unmappable(std::uint32_t rule, UnmappableReason reason, std::string_view column) override {
    if (tells_unmappable) to_.unmappable(rule, reason, column);
  }

  bool tells_unmappable = true;

 private:
  bool is_new(InvalidationKind kind, std::uint32_t rule, std::string_view text) {
    return seen_.emplace(kind, rule, text).second;
  }
  InvalidationReceiver& to_;
  std::set<std::tuple<InvalidationKind, std::uint32_t, std::string>> seen_;
};

}  // namespace

void map_row(Mapper& mapper, const Relation& relation, std::span<const Value> row, InvalidationReceiver& receiver) {
  Once once(receiver);
  Change change;
  change.relation = &relation;
  change.operation = Operation::kDelete;
  change.old_row = row;
  mapper.map(change, once);
  once.tells_unmappable = false;
  change.operation = Operation::kInsert;
  change.old_row = {};
  change.new_row = row;
  mapper.map(change, once);
  // Of an update nothing is known but what the row has become: any column may have changed.
  const std::vector<Value> unknown(row.size());
  change.operation = Operation::kUpdate;
  change.old_row = unknown;
  mapper.map(change, once);
}

}  // namespace evictd
