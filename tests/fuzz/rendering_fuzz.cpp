// Any row through any rules: the input is a rules file, a zero byte, and then cells. Every key must
// fit the limit and match the pattern that a purge of its template would use: a pattern that misses
// a key would leave it stale.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "mapping/check.h"
#include "mapping/mapper.h"
#include "mapping/row_version.h"
#include "mapping/rules.h"

namespace {

using namespace evictd;

// Redis's glob matching, as far as templates use it: '*', and '\' before a character. Without
// recursion.
bool glob_matches(std::string_view glob, std::string_view text) {
  std::size_t star = std::string_view::npos;
  std::size_t retry = 0;
  std::size_t g = 0;
  std::size_t t = 0;
  while (t < text.size()) {
    if (g < glob.size() && glob[g] == '*') {
      star = g++;
      retry = t;
      continue;
    }
    const bool escaped = g + 1 < glob.size() && glob[g] == '\\';
    if (g < glob.size() && glob[g + (escaped ? 1 : 0)] == text[t]) {
      g += escaped ? 2 : 1;
      ++t;
      continue;
    }
    if (star == std::string_view::npos) return false;
    g = star + 1;
    t = ++retry;
  }
  while (g < glob.size() && glob[g] == '*') ++g;
  return g == glob.size();
}

class Receiver : public InvalidationReceiver {
 public:
  explicit Receiver(const RuleSet& rules) : rules_(rules) {}

  void key(std::uint32_t rule, std::string_view key) override { check(rule, key, false); }
  void tag(std::uint32_t rule, std::string_view tag) override {
    check(rule, std::string(kTagPrefix) + std::string(tag), true);
  }
  void bump(std::uint32_t rule, std::string_view counter) override { check(rule, counter, false); }
  // Whatever the row holds, the order says what it was made of: none of its values ends early, or begins another.
  void semantic(std::uint32_t rule, std::string_view order) override {
    const std::vector<SemanticInfo>& entries = rules_.rules().at(rule).semantic;
    const std::optional<SemanticOrder> read = read_semantic_order(order, entries);
    EVICTD_CHECK(read && order.size() <= kKeyBytesMax);
    const SemanticInfo& info = entries.at(read->entry);
    EVICTD_CHECK(read->values.size() == info.attributes.size() && read->entry == semantic_entry(order));
    EVICTD_CHECK(lacks_vector(info, order) == (info.is_near() && read->vector.empty()));
    (void)semantic_order_text(info, *read);
  }
  void surrogate_key(std::uint32_t rule, std::string_view key) override { check(rule, key, false); }
  void row_version(std::uint32_t rule, std::string_view version) override {
    EVICTD_CHECK(!rules_.rules().at(rule).version_column.empty());
    EVICTD_CHECK(version.empty() || row_version_order(version));
  }
  void purge(std::uint32_t rule, std::uint32_t pattern) override {
    EVICTD_CHECK(pattern < rules_.rules().at(rule).patterns.size());
  }
  void unmappable(std::uint32_t rule, UnmappableReason reason, std::string_view column) override {
    EVICTD_CHECK(rule < rules_.rules().size() && !column.empty());
    (void)unmappable_reason_name(reason);
  }

 private:
  void check(std::uint32_t rule, std::string_view text, bool is_tag) {
    EVICTD_CHECK(text.size() <= kKeyBytesMax + (is_tag ? kTagPrefix.size() : 0));
    bool matched = false;
    for (const Pattern& pattern : rules_.rules().at(rule).patterns) {
      matched = matched || (pattern.is_tag == is_tag && glob_matches(pattern.glob, text));
    }
    EVICTD_CHECK(matched);
  }
  const RuleSet& rules_;
};

class Bytes {
 public:
  explicit Bytes(std::string_view bytes) : rest_(bytes) {}
  std::uint8_t take() {
    if (rest_.empty()) return 0;
    const auto byte = static_cast<std::uint8_t>(rest_[0]);
    rest_.remove_prefix(1);
    return byte;
  }
  std::string_view take_text() {
    const std::string_view text = rest_.substr(0, rest_.find('\0'));
    rest_.remove_prefix(std::min(rest_.size(), text.size() + 1));
    return text;
  }

 private:
  std::string_view rest_;
};

std::vector<Value> take_row(Bytes& bytes, std::size_t columns) {
  std::vector<Value> row(columns);
  for (Value& value : row) {
    value.state = static_cast<ValueState>(bytes.take() % 4);
    if (value.state == ValueState::kText) value.text = bytes.take_text();
  }
  return row;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t end = input.find('\0');
  if (end == std::string_view::npos) return 0;
  const Result<RuleSet> rules = RuleSet::parse(input.substr(0, end), "f");
  if (!rules) return 0;
  Bytes bytes(input.substr(end + 1));
  Relation relation;
  relation.generation = 1;
  relation.schema = rules->rules()[0].schema;
  relation.table = rules->rules()[0].table;
  for (const ColumnNeed& need : column_needs(*rules)) {
    const std::uint8_t kind = bytes.take();
    relation.columns.push_back({need.column, static_cast<ValueType>(kind % 9), (kind & 0x80) != 0});
  }
  Mapper mapper(*rules);
  Receiver receiver(*rules);
  for (int i = 0; i < 3; ++i) {
    Change change{static_cast<Operation>(bytes.take() % 4), &relation, {}, {}};
    const std::vector<Value> new_row = take_row(bytes, relation.columns.size());
    const std::vector<Value> old_row = take_row(bytes, relation.columns.size());
    if (change.operation == Operation::kInsert || change.operation == Operation::kUpdate)
      change.new_row = new_row;
    if (change.operation == Operation::kDelete || (bytes.take() & 1) != 0) change.old_row = old_row;
    mapper.map(change, receiver);
  }
  return 0;
}
