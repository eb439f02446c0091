#include "daemon/app/explain.h"

#include <fmt/core.h>
#include <simdjson.h>

#include <algorithm>

#include "daemon/base/plain_text.h"
#include "daemon/flow/found_rows.h"
#include "daemon/sinks/http/surrogate.h"
#include "mapping/did_you_mean.h"
#include "mapping/table_name.h"
#include "mapping/utf8.h"

namespace evictd {
namespace {

// What a person should know about a rule that could not be rendered.
std::string unmappable_text(UnmappableReason reason, std::string_view column) {
  switch (reason) {
    case UnmappableReason::kNotSent:
      return fmt::format("the value of column '{}' is not sent", column);
    case UnmappableReason::kUnchangedToast:
      return fmt::format("the unchanged value of column '{}' is not sent (TOAST)", column);
    case UnmappableReason::kMissingColumn:
      return fmt::format("the table has no column '{}'", column);
    case UnmappableReason::kBadValue:
      return fmt::format("the value of column '{}' is not what the template expects", column);
    case UnmappableReason::kNoVector:
      return fmt::format("column '{}' is NULL, not sent, or no vector", column);
    case UnmappableReason::kReserved:
      return fmt::format("the value of column '{}' makes a key of evictd's own", column);
    case UnmappableReason::kTooLong:
      return fmt::format("the value of column '{}' makes a key longer than {} bytes", column, kKeyBytesMax);
  }
  return {};
}

constexpr std::size_t kValueShown = 60;    // bytes
constexpr std::size_t kJoinedShown = 100;  // rows that one lookup found

// Not of what leads there, and of what is only said.
bool is_invalidation(const ExplainReceiver::Line& line) {
  return line.kind != "note" && line.kind != "lookup" && line.kind != "joined";
}

// Trailing space stays with a raw JSON token.
std::string_view trimmed(std::string_view text) {
  const std::size_t end = text.find_last_not_of(" \t\r\n");
  return end == std::string_view::npos ? std::string_view() : text.substr(0, end + 1);
}

}  // namespace

ExplainReceiver::ExplainReceiver(const RuleSet& rules, FindJoined find_joined)
    : rules_(rules), find_joined_(std::move(find_joined)) {
  if (find_joined_) found_mapper_ = std::make_unique<Mapper>(rules_);
}

ExplainReceiver::~ExplainReceiver() = default;

void ExplainReceiver::add(Line line) {
  if (is_of_lookup_) {
    if (!found_.emplace(line.kind + ' ' + line.text, line.rule_text()).second) return;
    if (rows_shown_ > kJoinedShown) {
      if (line.kind != "note") ++not_shown_;
      return;
    }
  }
  lines_.push_back(std::move(line));
}

std::string ExplainReceiver::Line::rule_text() const {
  if (rule.empty()) return {};
  return fmt::format("rule '{}'{}{}", rule, place.empty() ? "" : " (" + place + ")", note.empty() ? "" : ", " + note);
}

ExplainReceiver::Line ExplainReceiver::line_of(std::uint32_t rule, std::string kind, std::string text, std::string note) const {
  const RuleInfo& info = rules_.rules()[rule];
  return {std::move(kind), std::move(text), info.name, info.place.to_string(), std::move(note)};
}

void ExplainReceiver::key(std::uint32_t rule, std::string_view key) {
  std::string text = printable_text(key);
  if (!rules_.rules()[rule].version_column.empty()) {
    text += row_version_.empty() ? "  (no version known)" : fmt::format("  (version {})", printable_text(row_version_));
  }
  const RefreshInfo& refresh = rules_.rules()[rule].refresh;
  std::string then = !refresh.query.empty()    ? "filled anew if it was cached"
                     : !refresh.stream.empty() ? fmt::format("told to the stream '{}' if it was cached", printable_text(refresh.stream))
                                               : "";
  add(line_of(rule, "key", std::move(text), std::move(then)));
}

void ExplainReceiver::tag(std::uint32_t rule, std::string_view tag) {
  add(line_of(rule, "tag", printable_text(tag)));
}

void ExplainReceiver::bump(std::uint32_t rule, std::string_view counter) {
  add(line_of(rule, "bump", printable_text(counter)));
}

void ExplainReceiver::surrogate_key(std::uint32_t rule, std::string_view key) {
  // As headers carry it, where a service cannot carry it as it is.
  std::string spelled;
  for (const EdgeKind kind : kEdgeKinds) {
    const std::string one = spell_surrogate_key(key, kind);
    if (one != key) spelled += fmt::format("{}{}: {}", spelled.empty() ? "" : ", ", edge_kind_name(kind), one);
  }
  add(line_of(rule, "surrogate", printable_text(key) + (spelled.empty() ? "" : "  (" + spelled + ")")));
}

void ExplainReceiver::semantic(std::uint32_t rule, std::string_view order) {
  const std::vector<SemanticInfo>& entries = rules_.rules()[rule].semantic;
  const std::optional<SemanticOrder> read = read_semantic_order(order, entries);
  if (!read) return;
  const SemanticInfo& info = entries[read->entry];
  std::string text = printable_text(semantic_order_text(info, *read));
  if (info.engine != SemanticEngine::kVset) text += fmt::format("  ({})", semantic_engine_name(info.engine));
  add(line_of(rule, "semantic", std::move(text)));
  semantic_orders_.emplace_back(rule, order);
}

void ExplainReceiver::purge(std::uint32_t rule, std::uint32_t pattern) {
  add(line_of(rule, "purge", printable_text(rules_.rules()[rule].patterns[pattern].glob)));
}

void ExplainReceiver::unmappable(std::uint32_t rule, UnmappableReason reason,
                                 std::string_view column) {
  const OnMissing on_missing = rules_.rules()[rule].on_missing;
  const bool is_vector = reason == UnmappableReason::kNoVector;
  const char* then = is_vector && on_missing == OnMissing::kPurge ? "on_missing: purge, whatever passes the order's 'where' goes"
                     : !is_not_sent(reason)                  ? "it has no key, so nothing is deleted for it"
                     : on_missing == OnMissing::kPurge     ? "on_missing: purge"
                     : on_missing == OnMissing::kStop      ? "on_missing: stop, evictd would end here"
                                                           : "on_missing: ignore, nothing is deleted for it";
  add(line_of(rule, "note", fmt::format("{}; {}", unmappable_text(reason, column), then)));
}

std::size_t ExplainReceiver::invalidations() const {
  return not_shown_ + static_cast<std::size_t>(std::count_if(lines_.begin(), lines_.end(), [](const Line& line) { return is_invalidation(line); }));
}

bool ExplainReceiver::awaits_lookups() const {
  return !find_joined_ && std::any_of(lines_.begin(), lines_.end(), [](const Line& line) { return line.kind == "lookup"; });
}

void ExplainReceiver::lookup(std::uint32_t rule, std::uint32_t lookup, std::span<const std::string_view> values) {
  const RuleInfo& info = rules_.rules()[rule];
  const LookupInfo& wanted = info.lookups[lookup];
  std::string text;
  for (std::size_t step = 0; step < wanted.steps.size(); ++step) {
    const JoinStep& join = wanted.steps[step];
    text += fmt::format("{}{} where ", step == 0 ? "" : ", then ", printable_text(join.table.qualified()));
    for (std::size_t i = 0; i < join.match.size(); ++i) {
      const std::string value = step == 0 ? fmt::format("'{}'", printable_text(values[i].substr(0, kValueShown)))
                                          : fmt::format("its {}", printable_text(join.match[i].from));
      text += fmt::format("{}{} = {}", i == 0 ? "" : " and ", printable_text(join.match[i].column), value);
    }
  }
  for (const std::uint32_t pattern : wanted.templates) {
    const std::size_t keys = info.key_templates.size();
    const std::size_t tags = info.tag_templates.size();
    const std::string& source = pattern < keys          ? info.key_templates[pattern]
                                : pattern < keys + tags ? info.tag_templates[pattern - keys]
                                                        : info.bump_templates[pattern - keys - tags];
    text += fmt::format("{} {}", pattern == wanted.templates[0] ? ":" : ",", printable_text(source));
  }
  Line line = line_of(rule, "lookup", std::move(text));
  const auto is_same = [&](const Line& known) { return known.kind == line.kind && known.text == line.text && known.rule_text() == line.rule_text(); };
  if (std::any_of(lines_.begin(), lines_.end(), is_same)) return;  // the old and the new row lead there
  lines_.push_back(std::move(line));
  if (!find_joined_) return;
  is_of_lookup_ = true;
  rows_shown_ = 0;
  tell_joined(rule, lookup, values);
  is_of_lookup_ = false;
}

// What the daemon does with an answer (flow/found_rows.h), for a person.
void ExplainReceiver::tell_joined(std::uint32_t rule, std::uint32_t lookup, std::span<const std::string_view> values) {
  const RuleInfo& info = rules_.rules()[rule];
  const std::string table = printable_text(info.lookups[lookup].steps.back().table.qualified());
  const LookupAnswer answer = find_joined_(rule, lookup, values);
  if (answer.outcome == LookupAnswer::Outcome::kFailed) {
    return tell_all_purged(rule, lookup, fmt::format("the lookup fails: {}; evictd purges its patterns", printable_text(answer.problem)));
  }
  if (FoundRows(answer, 1).is_over(0, info)) {
    const bool is_too_much = answer.outcome == LookupAnswer::Outcome::kTooMuch;
    const std::string much = is_too_much ? "it leads to more rows than one answer can hold"
                                         : fmt::format("it leads to more than {} rows (fan_out)", info.fan_out);
    if (info.on_overflow == OnOverflow::kStop) return add(line_of(rule, "note", much + "; on_overflow: stop, evictd would end here"));
    return tell_all_purged(rule, lookup, much + "; on_overflow: purge");
  }
  if (answer.rows.empty()) add(line_of(rule, "note", fmt::format("no row of {} is there now: no key", table)));
  found_mapper_->bind_found(rule, lookup, answer.found);
  const std::size_t before = not_shown_;
  for (const LookupAnswer::Row& row : answer.rows) {
    if (++rows_shown_ <= kJoinedShown) {
      std::string text = table;
      for (std::size_t i = 0; i < row.values.size(); ++i) {
        text += fmt::format(" {}={}", printable_text(answer.found.columns[i].name),
                            row.values[i] ? printable_text(std::string_view(*row.values[i]).substr(0, kValueShown)) : "NULL");
      }
      lines_.push_back({"joined", std::move(text)});
    }
    map_found(row, *found_mapper_, *this);
  }
  if (rows_shown_ <= kJoinedShown) return;
  lines_.push_back(line_of(rule, "note", fmt::format("and {} more rows of {}, with {} more invalidations", rows_shown_ - kJoinedShown, table,
                                                     not_shown_ - before)));
}

void ExplainReceiver::tell_all_purged(std::uint32_t rule, std::uint32_t lookup, std::string why) {
  add(line_of(rule, "note", std::move(why)));
  for (const std::uint32_t pattern : rules_.rules()[rule].lookups[lookup].templates) purge(rule, pattern);
}

void ExplainReceiver::held_back(std::uint32_t rule, const HeldBack& why) {
  const auto is_text = [&] {
    return why.value ? fmt::format("'{}'", printable_text(why.value->substr(0, kValueShown))) : std::string("NULL");
  };
  std::string text;
  switch (why.why) {
    case HeldBack::Why::kOperation:
      text = "'on' does not name this operation";
      break;
    case HeldBack::Why::kUnchanged:
      text = !rules_.rules()[rule].implied_via.empty() ? "no column that the join reads changed"
             : rules_.rules()[rule].ignore_changed.empty() ? "no column of 'when_changed' changed"
                                                         : "no column but those of 'ignore_changed' changed";
      break;
    case HeldBack::Why::kWhere:
      text = fmt::format("'where' does not hold: column '{}' is {}", printable_text(why.column), is_text());
      break;
    case HeldBack::Why::kCrosses:
      text = fmt::format("'where' does not hold: column '{}' does not cross its bound", printable_text(why.column));
      break;
    case HeldBack::Why::kNull:
      text = fmt::format("column '{}' gives NULL or nothing: there is no such key", printable_text(why.column));
  }
  Line line = line_of(rule, "note", std::move(text));
  for (const Line& known : held_back_) {
    if (known.text == line.text && known.rule_text() == line.rule_text()) return;
  }
  held_back_.push_back(std::move(line));
}

Result<void> require_rule(const RuleSet& rules, const std::string& name) {
  std::vector<std::string_view> names;
  for (const RuleInfo& rule : rules.rules()) names.push_back(rule.name);
  if (name.empty() || std::find(names.begin(), names.end(), name) != names.end()) return {};
  return fail(ErrorKind::kUsage, fmt::format("no rule is named '{}'", printable_text(name)), did_you_mean(name, names, "rules"));
}

Result<TableName> find_mapped_table(const RuleSet& rules, const std::string& written) {
  const Result<TableName> name = parse_table_name(written);
  std::vector<std::string> known;
  for (const RuleInfo& rule : rules.rules()) {
    TableName of_rule{rule.schema, rule.table};
    // A name with dots is also taken as messages show it.
    if ((name && of_rule == *name) || (!name && of_rule.qualified() == written)) return of_rule;
    std::string shown = written_table_name(of_rule);
    if (std::find(known.begin(), known.end(), shown) == known.end()) known.push_back(std::move(shown));  // rules share tables
  }
  if (!name) return tl::unexpected(Error(name.error()).within("'--table'"));
  const std::vector<std::string_view> names(known.begin(), known.end());
  return fail(ErrorKind::kUsage, fmt::format("no rule names the table '{}'", written_table_name(*name)),
              did_you_mean(written_table_name(*name), names, "tables"));
}

std::vector<std::string> ExplainedChange::doubts(const RuleSet& rules) const {
  std::vector<std::string_view> read;
  for (const ColumnNeed& need : column_needs(rules)) {
    const RuleInfo& rule = rules.rules()[need.rule];
    if (relation_.is_of(rule.schema, rule.table)) read.push_back(relation_.columns[index_of(need.column)].name);
  }
  const auto is_given = [&](std::string_view name) { return std::find(given_.begin(), given_.end(), name) != given_.end(); };
  std::vector<std::string> texts;
  for (const std::string& name : given_) {
    if (std::find(read.begin(), read.end(), name) != read.end()) continue;
    std::vector<std::string_view> absent;
    std::copy_if(read.begin(), read.end(), std::back_inserter(absent), [&](std::string_view one) { return !is_given(one); });
    const std::string_view nearest = nearest_name(name, absent);
    if (nearest.empty()) continue;
    texts.push_back(fmt::format("no rule reads column '{}': did you mean '{}'?", printable_text(name), printable_text(nearest)));
  }
  for (const std::string& name : unknown_identity_) {
    std::vector<std::string_view> names;
    for (const Column& column : relation_.columns) names.push_back(column.name);
    const std::string_view nearest = nearest_name(name, names);
    texts.push_back(fmt::format("no row has column '{}' of the identity, and no rule reads it: {}", printable_text(name),
                                nearest.empty() ? "it decides nothing here" : fmt::format("did you mean '{}'?", printable_text(nearest))));
  }
  return texts;
}

std::size_t ExplainedChange::index_of(std::string_view name) const {
  std::size_t index = 0;
  while (index < relation_.columns.size() && relation_.columns[index].name != name) ++index;
  return index;
}

std::size_t ExplainedChange::column_number(std::string_view name) {
  const std::size_t index = index_of(name);
  if (index == relation_.columns.size()) relation_.columns.push_back(Column{std::string(name), ValueType::kCanonical, false});
  return index;
}

Result<void> ExplainedChange::read_row(const std::string& json, std::string_view option,
                                       std::vector<Cell>& row) {
  const auto wrong = [&](std::string_view what) {
    return fail(ErrorKind::kUsage, fmt::format("'{}': {}", option, what),
                R"(for example '{"id": 1, "slug": "blue"}')");
  };
  simdjson::ondemand::parser parser;
  const simdjson::padded_string padded(json);
  simdjson::ondemand::document document;
  simdjson::ondemand::object object;
  if (parser.iterate(padded).get(document) || document.get_object().get(object)) {
    return wrong("expected a JSON object");
  }
  for (auto field : object) {
    std::string_view name;
    simdjson::ondemand::value value;
    simdjson::ondemand::json_type type;
    if (field.unescaped_key().get(name)) return wrong("expected a JSON object");
    const std::size_t column = column_number(name);
    if (std::find(given_.begin(), given_.end(), name) == given_.end()) given_.emplace_back(name);
    if (row.size() < relation_.columns.size()) row.resize(relation_.columns.size());
    Cell& cell = row[column];
    if (cell.state != ValueState::kNotSent) {
      return wrong(fmt::format("column '{}' is given twice", name));
    }
    if (field.value().get(value) || value.type().get(type)) return wrong("expected a JSON object");
    cell.state = ValueState::kText;
    if (type == simdjson::ondemand::json_type::null) {
      cell.state = ValueState::kNull;
      if (bool is_null = false; value.is_null().get(is_null) || !is_null) {
        return wrong("expected a JSON object");
      }
    } else if (type == simdjson::ondemand::json_type::string) {
      std::string_view text;
      if (value.get_string().get(text)) return wrong("expected a JSON object");
      cell.text = text;
    } else if (double number = 0; type == simdjson::ondemand::json_type::number) {
      cell.text = trimmed(value.raw_json_token());  // stays text, never a double
      if (value.get_double().get(number)) return wrong("expected a JSON object");
    } else if (bool flag = false; type == simdjson::ondemand::json_type::boolean) {
      if (value.get_bool().get(flag)) return wrong("expected a JSON object");
      cell.text = flag ? "true" : "false";
    } else {
      // Objects and arrays are the text of a json column.
      std::string_view text;
      if (simdjson::to_json_string(value).get(text)) return wrong("expected a JSON object");
      cell.text = trimmed(text);
      relation_.columns[column].type = ValueType::kJson;
    }
  }
  const char* rest = nullptr;  // out of bounds at the end of the text, and that is as it should be
  if (document.current_location().get(rest) == simdjson::SUCCESS) {
    return wrong("expected one JSON object, got more text after it");
  }
  return {};
}

std::vector<Value> ExplainedChange::values_of(const std::vector<Cell>& row) {
  std::vector<Value> values;
  for (const Cell& cell : row) values.push_back(Value{cell.state, cell.text});
  return values;
}

Result<ExplainedChange> ExplainedChange::make(const CommandLine& request, const RuleSet& rules) {
  ExplainedChange made;
  made.operation_ = request.operation;
  const Result<TableName> table = find_mapped_table(rules, request.table);
  if (!table) return tl::unexpected(table.error());
  made.relation_.generation = 1;
  made.relation_.schema = table->schema;
  made.relation_.table = table->table;
  if (!request.old_row.empty()) {
    if (Result<void> read = made.read_row(request.old_row, "--old", made.old_cells_); !read) {
      return tl::unexpected(read.error());
    }
  }
  if (!request.new_row.empty()) {
    if (Result<void> read = made.read_row(request.new_row, "--new", made.new_cells_); !read) {
      return tl::unexpected(read.error());
    }
  }
  for (const ColumnNeed& need : column_needs(rules)) {
    const RuleInfo& rule = rules.rules()[need.rule];
    if (made.relation_.is_of(rule.schema, rule.table)) made.column_number(need.column);
  }
  for (const std::string& name : request.identity) {
    if (const std::size_t index = made.index_of(name); index < made.relation_.columns.size()) {
      made.relation_.columns[index].in_identity = true;
    } else if (request.identity != CommandLine().identity) {  // of the default nobody said that it is there
      made.unknown_identity_.push_back(name);
    }
  }
  const std::size_t columns = made.relation_.columns.size();
  if (!request.old_row.empty()) made.old_cells_.resize(columns);
  if (!request.new_row.empty()) made.new_cells_.resize(columns);
  return made;
}

Result<ExplainedChange> ExplainedChange::read_only(const std::string& json) {
  ExplainedChange made;
  made.operation_ = Operation::kInsert;
  if (Result<void> read = made.read_row(json, "--new", made.new_cells_); !read) return tl::unexpected(read.error());
  return made;
}

Change ExplainedChange::change() {
  old_row_ = values_of(old_cells_);
  new_row_ = values_of(new_cells_);
  Change change;
  change.operation = operation_;
  change.relation = &relation_;
  change.old_row = old_row_;
  change.new_row = new_row_;
  return change;
}

Result<void> change_row(const std::string& json, const Relation& relation, std::vector<Value>& row,
                        std::vector<std::string>& texts) {
  Result<ExplainedChange> read = ExplainedChange::read_only(json);
  if (!read) return tl::unexpected(read.error());
  const Change change = read->change();
  texts.reserve(change.new_row.size());  // what `row` refers to must not move
  std::vector<std::string_view> names;
  for (const Column& column : relation.columns) names.push_back(column.name);
  for (std::size_t i = 0; i < change.new_row.size(); ++i) {
    const std::string& name = read->relation().columns[i].name;
    const auto at = std::find(names.begin(), names.end(), name);
    if (at == names.end()) {
      return fail(ErrorKind::kUsage, fmt::format("'--new': table '{}' has no column '{}'", relation.qualified_name(), name),
                  did_you_mean(name, names, "columns"));
    }
    Value& value = row[static_cast<std::size_t>(at - names.begin())];
    value = change.new_row[i];
    value.text = texts.emplace_back(value.text);
  }
  return {};
}

std::vector<Value> sent_old_row(const Relation& relation, std::span<const Value> row, std::span<const Value> changed) {
  std::vector<Value> sent(row.begin(), row.end());
  bool is_whole = true;
  bool keeps_identity = !changed.empty();
  for (std::size_t i = 0; i < sent.size(); ++i) {
    if (!relation.columns[i].in_identity) {
      is_whole = false;
      sent[i] = Value{};
    } else if (keeps_identity) {
      keeps_identity = row[i].state == changed[i].state && row[i].text == changed[i].text;
    }
  }
  return keeps_identity && !is_whole ? std::vector<Value>() : sent;
}

std::string explain_text(std::string_view heading, const ExplainReceiver& receiver, const std::vector<std::string>& notes) {
  std::string out = fmt::format("{}\n", heading);
  std::size_t width = 0;
  std::size_t kinds = 6;
  for (const ExplainReceiver::Line& line : receiver.lines()) {
    kinds = std::max(kinds, line.kind.size());
    if (is_invalidation(line)) width = std::max(width, std::min<std::size_t>(line.text.size(), 40));
  }
  for (const ExplainReceiver::Line& line : receiver.lines()) {
    if (line.rule.empty()) {
      out += fmt::format("  {:<{}} {}\n", line.kind, kinds, line.text);
    } else {
      out += fmt::format("  {:<{}} {:<{}}  {}\n", line.kind, kinds, line.text, width, line.rule_text());
    }
  }
  for (const ExplainReceiver::Line& line : receiver.held_back()) {
    out += fmt::format("  {:<6} {}  {}\n", line.kind, line.text, line.rule_text());
  }
  for (const std::string& note : notes) out += fmt::format("  {:<6} {}\n", "note", note);
  const std::size_t count = receiver.invalidations();
  const bool looks_up = receiver.awaits_lookups();
  const std::string known = fmt::format("{} invalidation{}", count, count == 1 ? "" : "s");
  if (count == 0) {
    out += looks_up ? "what the lookups find is deleted\n" : "nothing is deleted\n";
  } else {
    out += known + (looks_up ? ", and what the lookups find\n" : "\n");
  }
  return plain_lines(out);
}

Result<std::string> explain(const CommandLine& request, const RuleSet& rules) {
  Result<ExplainedChange> explained = ExplainedChange::make(request, rules);
  if (!explained) return tl::unexpected(explained.error());
  Mapper mapper(rules);
  ExplainReceiver receiver(rules);
  mapper.map(explained->change(), receiver);
  return explain_text(fmt::format("{} of {}", operation_name(request.operation), explained->relation().qualified_name()),
                      receiver, explained->doubts(rules));
}

}  // namespace evictd
