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

#include "mapping/binding.h"
#include "mapping/canonical.h"
#include "mapping/check.h"
#include "mapping/filters.h"
#include "mapping/json_path.h"
#include "mapping/row_version.h"

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
  }
  return "unknown";
}

bool is_not_sent(UnmappableReason reason) {
  return reason != UnmappableReason::kBadValue && reason != UnmappableReason::kTooLong;
}

namespace {

constexpr std::size_t kKeptBytesMax = 1024 * 1024;  // of a buffer, from one change to the next

using BoundRules = std::vector<BoundRule>;

// What one change of one rule has already caused, so that each invalidation is passed on once.
class Emitted {
 public:
  void clear() {
    texts_.clear();
    entries_.clear();
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
    for (const Entry& entry : entries_) {
      if (entry.kind != kind || entry.length != text.size()) continue;
      if (std::string_view(texts_).substr(entry.begin, entry.length) == text) {
        texts_.resize(begin);
        return false;
      }
    }
    entries_.push_back({kind, begin, text.size()});
    return true;
  }

 private:
  struct Entry {
    InvalidationKind kind;
    std::size_t begin;
    std::size_t length;
  };
  std::string texts_;
  std::vector<Entry> entries_;
};

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
  Rendered render(const BoundTemplate& entry, const Change& change, Side side, Missing& why);
  Rendered filtered(const BoundPlaceholder& placeholder, const Value& value, UnmappableReason& reason);
  void emit(const BoundRule& rule, InvalidationKind kind, std::size_t begin, InvalidationReceiver& receiver);
  bool matches(const BoundRule& rule, const Change& change, Side side);
  void tell_row_version(const BoundRule& rule, const Change& change, InvalidationReceiver& receiver);

  const RuleSet& rules;
  std::unordered_map<std::uint64_t, BoundRules> bound;  // by Relation::generation
  // The relation of the last change: most changes are of the same one.
  std::uint64_t last_generation = 0;
  const BoundRules* last = nullptr;
  Emitted emitted;
  std::string scratch;
  std::string version_before;
  FilterMachine filters;
  JsonReader json;
};

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
  if (!rule.info->is_on(change.operation)) return;
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
  if (change.operation == Operation::kUpdate && !rule.when_changed.empty()) {
    bool changed = false;
    for (const BoundColumn& column : rule.when_changed)
      changed = changed || may_have_changed(change, column);
    if (!changed) return;
  }
  if (!rule.where.empty()) {
    const bool new_matches =
        change.operation != Operation::kDelete && matches(rule, change, Side::kNew);
    const bool old_matches =
        change.operation != Operation::kInsert && matches(rule, change, Side::kOld);
    if (!new_matches && !old_matches) return;
  }
  if (!rule.info->version_column.empty()) tell_row_version(rule, change, receiver);
  for (std::uint32_t i = 0; i < rule.templates.size(); ++i) map_template(rule, i, change, receiver);
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

// True unless a value proves the contrary.
bool Mapper::Impl::matches(const BoundRule& rule, const Change& change, Side side) {
  for (const BoundCondition& condition : rule.where) {
    if (condition.column.index == kNoColumn) continue;
    const Value value = resolve(change, condition.column, side);
    if (!is_known(value)) continue;
    if (value.state == ValueState::kNull) {
      if (!condition.source->matches_null) return false;
      continue;
    }
    scratch.clear();
    append_canonical(condition.column.type, value.text, scratch);
    const std::vector<std::string>& texts = condition.source->texts;
    if (!std::binary_search(texts.begin(), texts.end(), scratch)) return false;
  }
  return true;
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
    const Rendered rendered = render(entry, change, side, why);
    if (rendered == Rendered::kText) {
      emit(rule, entry.source->kind, begin, receiver);
      continue;
    }
    emitted.texts().resize(begin);
    if (rendered == Rendered::kMissing && !missing) missing = why;
    if (rendered == Rendered::kStrange && !strange) strange = why;
  }
  if (missing) {
    receiver.unmappable(rule.index, missing->reason, missing->column);
    if (rule.info->on_missing == OnMissing::kPurge) receiver.purge(rule.index, index);
  }
  if (strange) receiver.unmappable(rule.index, strange->reason, strange->column);
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
    default:
      return receiver.key(rule.index, text);
  }
}

// Appends to the arena; only a whole key is left there.
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
  out += literals[0];  // at most kTemplateBytesMax
  for (std::size_t i = 0; i < entry.placeholders.size(); ++i) {
    const BoundPlaceholder& placeholder = entry.placeholders[i];
    const std::string_view column = placeholder.source->column;
    if (placeholder.column.index == kNoColumn) {
      becomes(Rendered::kMissing, UnmappableReason::kMissingColumn, column);
      continue;
    }
    const Value value = resolve(change, placeholder.column, side);
    if (value.state == ValueState::kNotSent) {
      becomes(Rendered::kMissing, UnmappableReason::kNotSent, column);
      continue;
    }
    if (value.state == ValueState::kUnchanged) {
      becomes(Rendered::kMissing, UnmappableReason::kUnchangedToast, column);
      continue;
    }
    std::string_view text = value.text;
    if (!placeholder.is_direct) {
      UnmappableReason reason = UnmappableReason::kBadValue;
      const Rendered outcome = filtered(placeholder, value, reason);
      if (outcome == Rendered::kNull) return Rendered::kNull;
      if (outcome == Rendered::kStrange) {
        becomes(Rendered::kStrange, reason, column);
        continue;
      }
      text = scratch;
    } else if (value.state == ValueState::kNull) {
      return Rendered::kNull;
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
  for (const Filter& filter : placeholder.source->filters) {
    if (is_null) {
      if (filter.kind != Filter::Kind::kDefault) continue;
      scratch = filter.argument;
      is_null = false;
    } else if (!filters.apply(filter, scratch)) {
      reason = UnmappableReason::kBadValue;
      return Rendered::kStrange;
    }
  }
  return is_null ? Rendered::kNull : Rendered::kText;
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
  // One huge value must not be paid for for ever (G8).
  if (impl_->scratch.capacity() > kKeptBytesMax) impl_->scratch = std::string();
  impl_->emitted.shrink();
}

void Mapper::forget(const Relation& relation) {
  if (impl_->last_generation == relation.generation) impl_->last = nullptr;
  impl_->bound.erase(relation.generation);
}

}  // namespace evictd
