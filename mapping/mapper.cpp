// How a change becomes invalidations.
//
//   operation   rows rendered                     a value that the source did not send comes from
//   insert      new                               nowhere
//   update      new, old                          new 'unchanged': the old row, when it has it
//                                                 old: the new row, when the column kept its value
//                                                 for certain (in the replica identity and no old
//                                                 row sent; `immutable`)
//   delete      old                               nowhere
//   truncate    none: every pattern of the rule, and every counter that is always the same
//
// What one value of a template means for its key:
//
//   text                        part of the key
//   NULL                        there is no such key
//   a text that is of no use    there is no such key, and that is counted: no reader can have rendered it either. What a
//                               value can cause ends at the keys of its own row
//   not sent                    the key exists and is unknown: `on_missing` decides (G5)
//
// One that proves that there is no key decides, whatever the others are.
#include "mapping/mapper.h"

#include <algorithm>
#include <optional>
#include <string>
#include <unordered_map>

#include "mapping/array_text.h"
#include "mapping/binding.h"
#include "mapping/canonical.h"
#include "mapping/check.h"
#include "mapping/filters.h"
#include "mapping/json_path.h"
#include "mapping/row_version.h"
#include "mapping/value_range.h"

namespace evictd {

bool Relation::is_of(std::string_view of_schema, std::string_view of_table) const {
  if (table == of_table && schema == of_schema) return true;
  return std::any_of(also.begin(), also.end(), [&](const TableName& name) {
    return name.table == of_table && name.schema == of_schema;
  });
}

std::string_view unmappable_reason_name(UnmappableReason reason) {
  switch (reason) {
    case UnmappableReason::kNotSent:
      return "not_sent";
    case UnmappableReason::kUnchangedToast:
      return "unchanged_toast";
    case UnmappableReason::kMissingColumn:
      return "missing_column";
    case UnmappableReason::kBadValue:
      return "bad_value";
    case UnmappableReason::kTooLong:
      return "too_long";
    case UnmappableReason::kReserved:
      return "reserved";
    case UnmappableReason::kNoVector:
      return "no_vector";
  }
  return "unknown";
}

bool is_not_sent(UnmappableReason reason) {
  switch (reason) {
    case UnmappableReason::kNotSent:
    case UnmappableReason::kUnchangedToast:
    case UnmappableReason::kMissingColumn:
    case UnmappableReason::kNoVector:
      return true;
    case UnmappableReason::kBadValue:
    case UnmappableReason::kTooLong:
    case UnmappableReason::kReserved:
      return false;
  }
  return true;
}

namespace {

constexpr std::size_t kKeptBytesMax = 1024 * 1024;  // of a buffer, from one change to the next

using BoundRules = std::vector<BoundRule>;

constexpr std::size_t kEntriesComparedMax = 32;      // beyond it, by their hashes
constexpr std::size_t kEntriesMax = 64 * 1024;       // G8: what is kept of one change; beyond it, forgotten

// What one change of one rule has already caused, so that each invalidation is passed on once.
class Emitted {
 public:
  void clear() {
    texts_.clear();
    entries_.clear();
    hashes_.clear();
  }

  // An array may have any number of elements: what was passed on may be passed on again then, which costs time and nothing
  // else. REQUIRES: nothing is being built.
  void stay_small() {
    if (texts_.size() > kKeptBytesMax || entries_.size() > kEntriesMax) clear();
  }

  // One change with long keys must not be paid for for ever (G8).
  void shrink() {
    if (texts_.capacity() > kKeptBytesMax) texts_ = std::string();
  }

  // The text is built at the end of the arena.
  std::string& texts() { return texts_; }
  std::size_t end() const { return texts_.size(); }

  // True when the text from `begin` to the end is new for this kind; otherwise it is dropped.
  bool keep(InvalidationKind kind, std::size_t begin) {
    const std::string_view text = std::string_view(texts_).substr(begin);
    if (find(kind, text)) {
      texts_.resize(begin);
      return false;
    }
    entries_.push_back({kind, begin, text.size()});
    if (entries_.size() < kEntriesComparedMax) return true;
    for (std::size_t i = hashes_.size(); i < entries_.size(); ++i) hashes_.emplace(hash_of(entries_[i]), i);
    return true;
  }

 private:
  struct Entry {
    InvalidationKind kind;
    std::size_t begin;
    std::size_t length;
  };

  std::string_view text_of(const Entry& entry) const {
    return std::string_view(texts_).substr(entry.begin, entry.length);
  }
  std::size_t hash_of(const Entry& entry) const { return std::hash<std::string_view>()(text_of(entry)); }

  bool find(InvalidationKind kind, std::string_view text) const {
    const auto is_same = [&](const Entry& entry) { return entry.kind == kind && text_of(entry) == text; };
    if (hashes_.empty()) return std::any_of(entries_.begin(), entries_.end(), is_same);
    const auto [first, last] = hashes_.equal_range(std::hash<std::string_view>()(text));
    return std::any_of(first, last, [&](const auto& hashed) { return is_same(entries_[hashed.second]); });
  }

  std::unordered_multimap<std::size_t, std::size_t> hashes_;  // to numbers of entries; empty while there are few
  std::string texts_;
  std::vector<Entry> entries_;
};

// Whether a known value passes what the condition asks of a row.
bool passes(const Condition& condition, bool is_null, std::string_view text) {
  const auto has = [&](const ValueList& list) {
    return is_null ? list.has_null : std::binary_search(list.texts.begin(), list.texts.end(), text);
  };
  if (!condition.among.empty() && !has(condition.among)) return false;
  if (has(condition.except)) return false;
  if (condition.comparisons.empty()) return true;
  if (is_null) return false;
  return std::all_of(condition.comparisons.begin(), condition.comparisons.end(), [&](const auto& comparison) { return passes(comparison.first, comparison.second, text); });
}

}  // namespace

struct Mapper::Impl {
  explicit Impl(const RuleSet& rule_set) : rules(rule_set) {}

  // What became of rendering one template for one row: later ones win.
  enum class Rendered : std::uint8_t { kText, kMissing, kStrange, kNull };
  struct Missing {
    UnmappableReason reason = UnmappableReason::kNotSent;
    std::string_view column;
  };

  const BoundRules& bind(const Relation& relation);
  void map_rule(const BoundRule& rule, const Change& change, InvalidationReceiver& receiver);
  void map_template(const BoundRule& rule, std::uint32_t index, const Change& change,
                    InvalidationReceiver& receiver);
  void map_lookup(const BoundRule& rule, std::uint32_t index, const Change& change, InvalidationReceiver& receiver);
  Rendered render(const BoundTemplate& entry, const Change& change, Side side, Missing& why);
  Rendered gather(const BoundPlaceholder& placeholder, const Value& value, UnmappableReason& reason);
  void render_each(const BoundRule& rule, const BoundTemplate& entry, std::size_t begin, InvalidationReceiver& receiver,
                   std::optional<Missing>& strange);
  Rendered filtered(const BoundPlaceholder& placeholder, const Value& value, UnmappableReason& reason);
  bool apply_filters(const BoundPlaceholder& placeholder, bool& is_null);
  bool is_reserved(InvalidationKind kind, std::size_t begin);
  void emit(const BoundRule& rule, InvalidationKind kind, std::size_t begin, InvalidationReceiver& receiver);
  void emit_semantic(const BoundRule& rule, std::string_view order, InvalidationReceiver& receiver);
  bool is_asked_for(const BoundRule& rule, const Change& change, InvalidationReceiver& receiver);
  const BoundCondition* first_failure(const BoundRule& rule, const Change& change, Side side);
  bool may_cross(const BoundCondition& condition, const Change& change);
  std::optional<int> side_of(const BoundCondition& condition, const Change& change, Side side);
  void tell_row_version(const BoundRule& rule, const Change& change, InvalidationReceiver& receiver);
  void shrink();

  const RuleSet& rules;
  std::optional<BoundRule> found_rule;  // of the lookup whose rows are mapped
  const Relation* found_relation = nullptr;
  std::unordered_map<std::uint64_t, BoundRules> bound;  // by Relation::generation
  // The relation of the last change: most changes are of the same one.
  std::uint64_t last_generation = 0;
  const BoundRules* last = nullptr;
  Emitted emitted;
  std::string scratch;
  std::string version_before;
  // The elements of the array that the template being rendered names.
  struct Element {
    bool is_null = false;
    std::size_t begin = 0;
    std::size_t length = 0;
  };
  std::string element_texts;
  std::vector<Element> elements;
  std::size_t before_each = 0;  // bytes of the text that stands before them
  FilterMachine filters;
  JsonReader json;
};

// One huge value must not be paid for for ever (G8).
void Mapper::Impl::shrink() {
  if (scratch.capacity() > kKeptBytesMax) scratch = std::string();
  emitted.shrink();
  if (element_texts.capacity() > kKeptBytesMax) element_texts = std::string();
  if (elements.capacity() > kEntriesMax) elements = {};
}

const BoundRules& Mapper::Impl::bind(const Relation& relation) {
  if (last != nullptr && last_generation == relation.generation) return *last;
  const auto [entry, is_new] = bound.try_emplace(relation.generation);
  if (is_new) {
    const RuleSet::Compiled& compiled = rules.compiled();
    for (std::uint32_t i = 0; i < compiled.rules.size(); ++i) {
      const RuleInfo& info = compiled.infos[i];
      if (!relation.is_of(info.schema, info.table)) continue;
      entry->second.push_back(bind_rule(i, compiled, relation));
    }
  }
  last_generation = relation.generation;
  last = &entry->second;  // stays where it is: the map is node-based
  return *last;
}

void Mapper::Impl::map_rule(const BoundRule& rule, const Change& change,
                            InvalidationReceiver& receiver) {
  if (!rule.info->is_on(change.operation)) return receiver.held_back(rule.index, {HeldBack::Why::kOperation, {}, {}});
  emitted.clear();
  const auto patterns = static_cast<std::uint32_t>(rule.info->patterns.size());
  if (change.operation == Operation::kTruncate) {
    for (std::uint32_t pattern = 0; pattern < patterns; ++pattern) {
      const CompiledTemplate* source =
          pattern < rule.templates.size() ? rule.templates[pattern].source : nullptr;
      const bool is_one_counter = source != nullptr && source->kind == InvalidationKind::kBump &&
                                  source->compiled.placeholders.empty();
      if (is_one_counter) {
        receiver.bump(rule.index, source->compiled.literals[0]);
      } else if (!rule.info->patterns[pattern].exact.empty()) {
        receiver.surrogate_key(rule.index, rule.info->patterns[pattern].exact);
      } else {
        receiver.purge(rule.index, pattern);
      }
    }
    return;
  }
  if (!is_asked_for(rule, change, receiver)) return;
  if (!rule.info->version_column.empty()) tell_row_version(rule, change, receiver);
  for (std::uint32_t i = 0; i < rule.templates.size(); ++i) {
    if (!rule.templates[i].is_elsewhere) map_template(rule, i, change, receiver);
  }
  for (std::uint32_t i = 0; i < rule.lookups.size(); ++i) map_lookup(rule, i, change, receiver);
  for (std::uint32_t pattern = rule.source->first_purge_pattern; pattern < patterns; ++pattern) {
    receiver.purge(rule.index, pattern);
  }
}

// An insert or update asks fills for the new row's version; a delete for more than the old row's, for a reader
// may still hold that row. A version that did not grow is none: two changes could not be told apart.
void Mapper::Impl::tell_row_version(const BoundRule& rule, const Change& change,
                                    InvalidationReceiver& receiver) {
  const auto canonical = [&](Side side, std::string& out) {
    out.clear();
    if (rule.version.index == kNoColumn) return;
    const Value value = resolve(change, rule.version, side);
    if (value.state == ValueState::kText) append_canonical(rule.version.type, value.text, out);
  };
  const bool is_delete = change.operation == Operation::kDelete;
  canonical(is_delete ? Side::kOld : Side::kNew, scratch);
  if (is_delete) {
    receiver.row_version(rule.index, next_row_version(scratch).value_or(""));
    return;
  }
  bool proves = row_version_order(scratch).has_value();
  if (proves && change.operation == Operation::kUpdate) {
    canonical(Side::kOld, version_before);
    proves = version_before.empty() || !row_version_reaches(version_before, scratch);
  }
  receiver.row_version(rule.index, proves ? std::string_view(scratch) : std::string_view());
}

// False only when the values prove that the rule need not act (G5).
bool Mapper::Impl::is_asked_for(const BoundRule& rule, const Change& change, InvalidationReceiver& receiver) {
  const bool asks_for_changes = !rule.source->when_changed.empty() || !rule.source->ignore_changed.empty();
  if (change.operation == Operation::kUpdate && asks_for_changes &&
      std::none_of(rule.when_changed.begin(), rule.when_changed.end(),
                   [&](const BoundColumn& column) { return may_have_changed(change, column); })) {
    receiver.held_back(rule.index, {HeldBack::Why::kUnchanged, {}, {}});
    return false;
  }
  if (rule.where.empty()) return true;
  const BoundCondition* failed_new =
      change.operation != Operation::kDelete ? first_failure(rule, change, Side::kNew) : nullptr;
  const BoundCondition* failed_old =
      change.operation != Operation::kInsert ? first_failure(rule, change, Side::kOld) : nullptr;
  const bool new_matches = change.operation != Operation::kDelete && failed_new == nullptr;
  const bool old_matches = change.operation != Operation::kInsert && failed_old == nullptr;
  if (!new_matches && !old_matches) {
    const bool of_new = failed_new != nullptr;
    const BoundCondition& failed = of_new ? *failed_new : *failed_old;
    const Value value = resolve(change, failed.column, of_new ? Side::kNew : Side::kOld);
    HeldBack why{HeldBack::Why::kWhere, failed.source->column, {}};
    if (value.state == ValueState::kText) {
      scratch.clear();
      append_canonical(failed.column.type, value.text, scratch);
      why.value = scratch;
    }
    receiver.held_back(rule.index, why);
    return false;
  }
  if (change.operation != Operation::kUpdate) return true;
  for (const BoundCondition& condition : rule.where) {
    if (!condition.source->crosses || may_cross(condition, change)) continue;
    receiver.held_back(rule.index, {HeldBack::Why::kCrosses, condition.source->column, {}});
    return false;
  }
  return true;
}

// The first condition that the row is known to fail; null: none, it may match.
const BoundCondition* Mapper::Impl::first_failure(const BoundRule& rule, const Change& change, Side side) {
  for (const BoundCondition& condition : rule.where) {
    if (condition.column.index == kNoColumn) continue;
    const Value value = resolve(change, condition.column, side);
    if (!is_known(value)) continue;
    scratch.clear();
    if (value.state == ValueState::kText) append_canonical(condition.column.type, value.text, scratch);
    if (!passes(*condition.source, value.state == ValueState::kNull, scratch)) return &condition;
  }
  return nullptr;
}

bool Mapper::Impl::may_cross(const BoundCondition& condition, const Change& change) {
  const std::optional<int> now = side_of(condition, change, Side::kNew);
  const std::optional<int> before = side_of(condition, change, Side::kOld);
  return !now || !before || *now != *before;
}

// Below, at or above the bound: -1, 0, 1. NULL: 2. Nothing when it is not known.
std::optional<int> Mapper::Impl::side_of(const BoundCondition& condition, const Change& change, Side side) {
  if (condition.column.index == kNoColumn) return std::nullopt;
  const Value value = resolve(change, condition.column, side);
  if (!is_known(value)) return std::nullopt;
  if (value.state == ValueState::kNull) return 2;
  scratch.clear();
  append_canonical(condition.column.type, value.text, scratch);
  const auto order = condition.source->crosses->compare(scratch);
  if (!order) return std::nullopt;
  return *order < 0 ? -1 : *order > 0 ? 1 : 0;
}

void Mapper::Impl::map_template(const BoundRule& rule, std::uint32_t index, const Change& change,
                                InvalidationReceiver& receiver) {
  const BoundTemplate& entry = rule.templates[index];
  const bool has_new = change.operation != Operation::kDelete;
  const bool has_old = change.operation == Operation::kDelete ||
                       (change.operation == Operation::kUpdate &&
                        !(change.old_row.empty() && entry.is_stable_without_old_row));
  std::optional<Missing> missing;
  std::optional<Missing> strange;
  for (const Side side : {Side::kNew, Side::kOld}) {
    if (!(side == Side::kNew ? has_new : has_old)) continue;
    const std::size_t begin = emitted.end();
    Missing why;
    Rendered rendered = render(entry, change, side, why);
    if (rendered == Rendered::kText && entry.each < entry.placeholders.size()) {
      render_each(rule, entry, begin, receiver, strange);
      continue;
    }
    if (rendered == Rendered::kText && is_reserved(entry.source->kind, begin)) {
      why = {UnmappableReason::kReserved, entry.placeholders[0].source->column};
      rendered = Rendered::kStrange;
    }
    if (rendered == Rendered::kText) {
      emit(rule, entry.source->kind, begin, receiver);
      continue;
    }
    emitted.texts().resize(begin);
    if (rendered == Rendered::kNull) receiver.held_back(rule.index, {HeldBack::Why::kNull, why.column, {}});
    if (rendered == Rendered::kMissing && !missing) missing = why;
    if (rendered == Rendered::kStrange && !strange) strange = why;
  }
  if (missing) {
    receiver.unmappable(rule.index, missing->reason, missing->column);
    if (rule.info->on_missing == OnMissing::kPurge) receiver.purge(rule.index, index);
  }
  if (strange) receiver.unmappable(rule.index, strange->reason, strange->column);
}

// Which rows of the other table there are decides later; here, which ones to ask for: by the old row and by the new one.
void Mapper::Impl::map_lookup(const BoundRule& rule, std::uint32_t index, const Change& change, InvalidationReceiver& receiver) {
  const BoundLookup& entry = rule.lookups[index];
  const LookupInfo& info = rule.info->lookups[index];
  const bool has_new = change.operation != Operation::kDelete;
  const bool has_old = change.operation == Operation::kDelete ||
                       (change.operation == Operation::kUpdate && !(change.old_row.empty() && entry.is_stable_without_old_row));
  std::optional<Missing> missing;
  std::vector<std::string_view> values[2];
  for (const Side side : {Side::kNew, Side::kOld}) {
    if (!(side == Side::kNew ? has_new : has_old)) continue;
    std::vector<std::string_view>& these = values[static_cast<std::size_t>(side)];
    bool is_null = false;
    std::optional<Missing> why;
    for (std::size_t i = 0; i < entry.columns.size(); ++i) {
      const std::string_view column = info.steps[0].match[i].from;
      if (entry.columns[i].index == kNoColumn) {
        why = Missing{UnmappableReason::kMissingColumn, column};
        continue;
      }
      const Value value = resolve(change, entry.columns[i], side);
      if (value.state == ValueState::kNull) is_null = true;
      if (value.state == ValueState::kNotSent) why = Missing{UnmappableReason::kNotSent, column};
      if (value.state == ValueState::kUnchanged) why = Missing{UnmappableReason::kUnchangedToast, column};
      these.push_back(value.text);
    }
    if (is_null) {  // joins with nothing
      receiver.held_back(rule.index, {HeldBack::Why::kNull, info.steps[0].match[0].from, {}});
    } else if (why) {
      if (!missing) missing = why;
    } else if (side == Side::kNew || these != values[0]) {
      receiver.lookup(rule.index, index, these);
    }
  }
  if (!missing) return;
  receiver.unmappable(rule.index, missing->reason, missing->column);
  if (rule.info->on_missing != OnMissing::kPurge) return;
  for (const std::uint32_t pattern : info.templates) receiver.purge(rule.index, pattern);
}

// Whether what stands in the arena is a name that evictd keeps for itself. A tag is none: its set has a prefix of its own; nor is
// a surrogate key, which names nothing in Redis.
bool Mapper::Impl::is_reserved(InvalidationKind kind, std::size_t begin) {
  return kind != InvalidationKind::kTag && kind != InvalidationKind::kSurrogate &&
         std::string_view(emitted.texts()).substr(begin).starts_with(kReservedPrefix);
}

// One key for each element that was gathered. The arena has the text before them, then that behind them.
void Mapper::Impl::render_each(const BoundRule& rule, const BoundTemplate& entry, std::size_t begin,
                               InvalidationReceiver& receiver, std::optional<Missing>& strange) {
  const BoundPlaceholder& placeholder = entry.placeholders[entry.each];
  const std::string before = emitted.texts().substr(begin, before_each);
  const std::string behind = emitted.texts().substr(begin + before_each);
  emitted.texts().resize(begin);
  const auto is_strange = [&](UnmappableReason reason) {
    if (!strange) strange = Missing{reason, placeholder.source->column};
  };
  for (const Element& element : elements) {
    bool is_null = element.is_null;
    scratch.assign(element_texts, element.begin, element.length);
    if (!apply_filters(placeholder, is_null)) {
      is_strange(UnmappableReason::kBadValue);
      continue;
    }
    if (is_null) continue;
    if (before.size() + scratch.size() + behind.size() > kKeyBytesMax) {
      is_strange(UnmappableReason::kTooLong);
      continue;
    }
    emitted.stay_small();
    const std::size_t start = emitted.end();
    emitted.texts() += before;
    emitted.texts() += scratch;
    emitted.texts() += behind;
    if (is_reserved(entry.source->kind, start)) {
      emitted.texts().resize(start);
      is_strange(UnmappableReason::kReserved);
      continue;
    }
    emit(rule, entry.source->kind, start, receiver);
  }
}

// What stands in the arena from `begin` on.
void Mapper::Impl::emit(const BoundRule& rule, InvalidationKind kind, std::size_t begin,
                        InvalidationReceiver& receiver) {
  if (!emitted.keep(kind, begin)) return;
  const std::string_view text = std::string_view(emitted.texts()).substr(begin);
  switch (kind) {
    case InvalidationKind::kTag:
      return receiver.tag(rule.index, text);
    case InvalidationKind::kBump:
      return receiver.bump(rule.index, text);
    case InvalidationKind::kSurrogate:
      return receiver.surrogate_key(rule.index, text);
    case InvalidationKind::kSemantic:
      return emit_semantic(rule, text, receiver);
    default:
      return receiver.key(rule.index, text);
  }
}

// Without its vector an order means all that passes its `where`.
void Mapper::Impl::emit_semantic(const BoundRule& rule, std::string_view order, InvalidationReceiver& receiver) {
  const SemanticInfo& info = rule.info->semantic[semantic_entry(order)];
  if (lacks_vector(info, order)) {
    receiver.unmappable(rule.index, UnmappableReason::kNoVector, info.near);
    if (rule.info->on_missing != OnMissing::kPurge) return;
  }
  receiver.semantic(rule.index, order);
}

// Appends to the arena; what is left there is a whole key, or for a template with elements the text around them.
Mapper::Impl::Rendered Mapper::Impl::render(const BoundTemplate& entry, const Change& change,
                                            Side side, Missing& why) {
  std::string& out = emitted.texts();
  const std::size_t begin = out.size();
  const std::vector<std::string>& literals = entry.source->compiled.literals;
  Rendered result = Rendered::kText;
  const auto becomes = [&](Rendered worse, UnmappableReason reason, std::string_view column) {
    if (worse <= result) return;
    result = worse;
    why = {reason, column};
  };
  const auto is_null = [&](std::string_view column) {
    why.column = column;
    return Rendered::kNull;
  };
  out += literals[0];  // at most kTemplateBytesMax
  for (std::size_t i = 0; i < entry.placeholders.size(); ++i) {
    const BoundPlaceholder& placeholder = entry.placeholders[i];
    const std::string_view column = placeholder.source->column;
    const bool is_vector = placeholder.source->is_vector;
    if (placeholder.column.index == kNoColumn && !is_vector) {
      becomes(Rendered::kMissing, UnmappableReason::kMissingColumn, column);
      continue;
    }
    Value value = placeholder.column.index == kNoColumn ? Value{} : resolve(change, placeholder.column, side);
    if (is_vector && !is_known(value)) value = {ValueState::kNull, {}};
    if (value.state == ValueState::kNotSent) {
      becomes(Rendered::kMissing, UnmappableReason::kNotSent, column);
      continue;
    }
    if (value.state == ValueState::kUnchanged) {
      becomes(Rendered::kMissing, UnmappableReason::kUnchangedToast, column);
      continue;
    }
    std::string_view text = value.text;
    if (i == entry.each) {
      UnmappableReason reason = UnmappableReason::kBadValue;
      const Rendered outcome = gather(placeholder, value, reason);
      if (outcome == Rendered::kNull) return is_null(column);
      if (outcome == Rendered::kStrange) {
        becomes(Rendered::kStrange, reason, column);
        continue;
      }
      before_each = out.size() - begin;
      text = {};
    } else if (!placeholder.is_direct) {
      UnmappableReason reason = UnmappableReason::kBadValue;
      const Rendered outcome = filtered(placeholder, value, reason);
      if (outcome == Rendered::kNull) return is_null(column);
      if (outcome == Rendered::kStrange) {
        becomes(Rendered::kStrange, reason, column);
        continue;
      }
      text = scratch;
    } else if (value.state == ValueState::kNull) {
      return is_null(column);
    }
    const std::string& literal = literals[i + 1];
    if (out.size() - begin + text.size() + literal.size() > kKeyBytesMax) {
      becomes(Rendered::kStrange, UnmappableReason::kTooLong, column);
      continue;
    }
    out += text;
    out += literal;
  }
  return result;
}

// The value through path and filters, into `scratch`. `reason` is set when it is strange.
Mapper::Impl::Rendered Mapper::Impl::filtered(const BoundPlaceholder& placeholder,
                                              const Value& value, UnmappableReason& reason) {
  scratch.clear();
  bool is_null = value.state == ValueState::kNull;
  if (!is_null && value.text.size() > placeholder.bytes_max) {
    reason = UnmappableReason::kTooLong;
    return Rendered::kStrange;
  }
  if (!is_null && !placeholder.source->path.empty()) {
    switch (json.find(value.text, placeholder.source->path, scratch)) {
      case JsonFound::kValue:
        break;
      case JsonFound::kNull:
        is_null = true;
        break;
      case JsonFound::kInvalid:
        reason = UnmappableReason::kBadValue;
        return Rendered::kStrange;
    }
  } else if (!is_null) {
    append_canonical(placeholder.column.type, value.text, scratch);
  }
  if (!apply_filters(placeholder, is_null)) {
    reason = UnmappableReason::kBadValue;
    return Rendered::kStrange;
  }
  return is_null ? Rendered::kNull : Rendered::kText;
}

// On `scratch`. False when the text is not what a filter works on.
bool Mapper::Impl::apply_filters(const BoundPlaceholder& placeholder, bool& is_null) {
  for (const Filter& filter : placeholder.source->filters) {
    if (is_null) {
      if (filter.kind != Filter::Kind::kDefault) continue;
      scratch = filter.argument;
      is_null = false;
    } else if (!filters.apply(filter, scratch)) {
      return false;
    }
  }
  return true;
}

// The elements of an array, not yet through the filters. kNull: it has none.
Mapper::Impl::Rendered Mapper::Impl::gather(const BoundPlaceholder& placeholder, const Value& value,
                                            UnmappableReason& reason) {
  elements.clear();
  element_texts.clear();
  if (value.state == ValueState::kNull) return Rendered::kNull;
  const Placeholder& source = *placeholder.source;
  const auto keep = [&](std::optional<std::string_view> text) {
    elements.push_back({!text, element_texts.size(), text ? text->size() : 0});
    if (text) element_texts += *text;
  };
  bool is_valid = true;
  if (source.path.empty() && placeholder.column.type != ValueType::kJson && looks_like_array_text(value.text)) {
    is_valid = for_each_element(value.text, [&](std::optional<std::string_view> text) {
      scratch.clear();
      if (!text) return keep(std::nullopt);
      if (source.element_path.empty()) {
        append_canonical(placeholder.column.element, *text, scratch);
        return keep(scratch);
      }
      const JsonFound found = json.find(*text, source.element_path, scratch);
      if (found == JsonFound::kInvalid) is_valid = false;
      keep(found == JsonFound::kValue ? std::optional<std::string_view>(scratch) : std::nullopt);
    }) && is_valid;
  } else {
    is_valid = json.each(value.text, source.path, source.element_path, keep) != JsonFound::kInvalid;
  }
  if (!is_valid) {
    reason = UnmappableReason::kBadValue;
    return Rendered::kStrange;
  }
  return elements.empty() ? Rendered::kNull : Rendered::kText;
}

Mapper::Mapper(const RuleSet& rules) : impl_(std::make_unique<Impl>(rules)) {}
Mapper::~Mapper() = default;

bool Mapper::is_mapped(const Relation& relation) { return !impl_->bind(relation).empty(); }

void Mapper::map(const Change& change, InvalidationReceiver& receiver) {
  EVICTD_CHECK(change.relation != nullptr);
  const std::size_t columns = change.relation->columns.size();
  EVICTD_CHECK(change.new_row.empty() || change.new_row.size() == columns);
  EVICTD_CHECK(change.old_row.empty() || change.old_row.size() == columns);
  for (const BoundRule& rule : impl_->bind(*change.relation)) {
    impl_->map_rule(rule, change, receiver);
  }
  impl_->shrink();
}

void Mapper::bind_found(std::uint32_t rule, std::uint32_t lookup, const Relation& found) {
  impl_->found_rule = evictd::bind_found(rule, lookup, impl_->rules.compiled(), found);
  impl_->found_relation = &found;
}

void Mapper::map_found(std::span<const Value> row, InvalidationReceiver& receiver) {
  EVICTD_CHECK(impl_->found_rule && row.size() == impl_->found_relation->columns.size());
  const Change change{Operation::kInsert, impl_->found_relation, {}, row};
  impl_->emitted.clear();
  for (std::uint32_t i = 0; i < impl_->found_rule->templates.size(); ++i) {
    if (!impl_->found_rule->templates[i].is_elsewhere) impl_->map_template(*impl_->found_rule, i, change, receiver);
  }
  impl_->shrink();
}

void Mapper::forget(const Relation& relation) {
  if (impl_->last_generation == relation.generation) impl_->last = nullptr;
  impl_->bound.erase(relation.generation);
}

}  // namespace evictd
