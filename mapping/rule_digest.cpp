#include "mapping/rule_digest.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string>
#include <string_view>

#include "mapping/check.h"

namespace evictd {

namespace {

std::uint64_t hash(std::string text) {
  FilterMachine filters;
  filters.apply({Filter::Kind::kSha256, {}}, text);  // lower-case hex
  std::uint64_t number = 0;
  constexpr std::size_t kDigits = 16;
  const auto [end, error] = std::from_chars(text.data(), text.data() + kDigits, number, 16);
  EVICTD_CHECK(error == std::errc() && end == text.data() + kDigits);
  return number;
}

// "4:text": no text can be taken for the end of one and the beginning of another.
std::string framed(std::string_view text) { return fmt::format("{}:{}", text.size(), text); }

// A list whose order means nothing.
std::string framed(std::vector<std::string> texts) {
  std::sort(texts.begin(), texts.end());
  texts.erase(std::unique(texts.begin(), texts.end()), texts.end());
  std::string list;
  for (const std::string& text : texts) list += framed(text);
  return framed(list);
}

// What a template renders, not how it was written.
std::string template_text(const Template& compiled) {
  std::string text = framed(compiled.literals[0]);
  for (std::size_t i = 0; i < compiled.placeholders.size(); ++i) {
    const Placeholder& placeholder = compiled.placeholders[i];
    text += "{" + framed(placeholder.column);
    for (const std::string& step : placeholder.path) text += "." + framed(step);
    if (placeholder.each) text += ".*";
    for (const std::string& step : placeholder.element_path) text += "." + framed(step);
    for (const Filter& filter : placeholder.filters) {
      text += "|" + framed(filter_name(filter.kind)) + framed(filter.argument);
    }
    text += "}" + framed(compiled.literals[i + 1]);
  }
  return text;
}

// One entry of `semantic`; its number in the rule has no meaning.
std::string semantic_text(const RuleInfo& info, Template compiled, std::size_t entry) {
  const SemanticInfo& semantic = info.semantic[entry];
  compiled.literals[0].erase(0, std::to_string(entry).size());
  std::string text = framed(semantic_engine_name(semantic.engine)) + framed(semantic.index);
  for (const std::string& attribute : semantic.attributes) text += framed(attribute);
  text += template_text(compiled);
  if (semantic.is_near()) text += fmt::format("near {} {}", semantic.min_similarity, framed(semantic.field));
  std::vector<std::string> keys;
  for (const std::vector<std::string>& pieces : semantic.keys) {
    std::string& key = keys.emplace_back();
    for (const std::string& piece : pieces) key += framed(piece);
  }
  return text + framed(keys);
}

// Where it leads, not what the joins are called.
std::string lookup_text(const LookupInfo& lookup) {
  std::string text;
  for (const JoinStep& step : lookup.steps) {
    std::vector<std::string> matches;
    for (const JoinStep::Match& match : step.match) matches.push_back(framed(match.column) + framed(match.from));
    text += framed(step.table.schema) + framed(step.table.table) + framed(matches);
  }
  return text;
}

std::string operations_text(const RuleInfo& info) {
  std::string text;
  for (const Operation operation :
       {Operation::kInsert, Operation::kUpdate, Operation::kDelete, Operation::kTruncate}) {
    if (info.is_on(operation)) text += std::string(operation_name(operation)) + " ";
  }
  return text;
}

std::vector<std::string> where_texts(const CompiledRule& rule) {
  std::vector<std::string> texts;
  for (const Condition& condition : rule.where) {
    std::string text = framed(condition.column);
    const bool only_values = condition.except.empty() && condition.comparisons.empty() && !condition.crosses;
    if (only_values || !condition.among.empty()) text += framed(condition.among.texts) + (condition.among.has_null ? "null" : "");
    if (!condition.except.empty()) text += "not" + framed(condition.except.texts) + (condition.except.has_null ? "null" : "");
    for (const auto& [comparison, bound] : condition.comparisons) {
      text += framed(comparison_name(comparison)) + framed(bound.text());
    }
    if (condition.crosses) text += "crosses" + framed(condition.crosses->text());
    texts.push_back(std::move(text));
  }
  return texts;
}

}  // namespace

std::uint64_t rule_digest(const RuleInfo& info, const CompiledRule& rule, DigestOf of) {
  const bool is_edge = of == DigestOf::kSurrogates;
  const bool has_surrogates = !info.surrogate_templates.empty();
  if (is_edge ? !has_surrogates : has_surrogates && info.patterns.size() == info.surrogate_templates.size()) return 0;
  std::string text = "evictd rule 1\n";
  const auto add = [&text](std::string_view name, const std::string& framed_value) {
    text += fmt::format("{} {}\n", name, framed_value);
  };
  const auto add_list = [&add](std::string_view name, const std::vector<std::string>& texts) {
    if (!texts.empty()) add(name, framed(texts));
  };
  add("table", framed(info.schema) + framed(info.table));
  add("on", operations_text(info));
  add_list("where", where_texts(rule));
  add_list("when_changed", rule.when_changed);
  add_list("ignore_changed", rule.ignore_changed);
  add_list("immutable", rule.immutable);
  std::vector<std::string> templates;
  for (const CompiledTemplate& entry : rule.templates) {
    if ((entry.kind == InvalidationKind::kSurrogate) != is_edge || entry.kind == InvalidationKind::kSemantic) continue;
    const std::string from = entry.lookup == kOwnRow ? "" : "via" + framed(lookup_text(info.lookups[entry.lookup]));
    templates.push_back(framed(invalidation_kind_name(entry.kind)) + from + template_text(entry.compiled));
  }
  add_list("templates", templates);
  std::vector<std::string> semantic;
  for (const CompiledTemplate& entry : rule.templates) {
    if (entry.kind == InvalidationKind::kSemantic && !is_edge) semantic.push_back(semantic_text(info, entry.compiled, semantic.size()));
  }
  add_list("semantic", semantic);
  std::vector<std::string> globs;
  for (std::size_t i = rule.first_purge_pattern; !is_edge && i < info.patterns.size(); ++i) globs.push_back(info.patterns[i].glob);
  add_list("purge", globs);
  // What decides how a key goes, where it is not the default.
  if (!is_edge) {
    if (info.fill == FillMode::kChecked) add("fill", "checked");
    if (info.mode == RuleMode::kStale) add("mode", "stale");
    if (info.tags_mode == TagsMode::kLazy) add("tags_mode", "lazy");
    if (!info.version_column.empty()) add("version", framed(info.version_column));
  }
  // `stop` and `purge` miss nothing; what `ignore` passed over may still be cached.
  if (info.on_missing == OnMissing::kIgnore) add("on_missing", "ignore");
  // Listeners of a channel that were never told. Caches are none of the rule's own: each has its record of the rules that act
  // on it, and one that is added finds this one new.
  if (!is_edge && !info.announce.empty()) add("announce", framed(info.announce));
  return hash(std::move(text));
}

std::uint64_t combined_digest(std::vector<std::uint64_t> digests) {
  EVICTD_CHECK(!digests.empty());
  std::sort(digests.begin(), digests.end());
  digests.erase(std::unique(digests.begin(), digests.end()), digests.end());
  std::string text = "evictd rules 1\n";
  for (const std::uint64_t digest : digests) text += fmt::format("{:016x}\n", digest);
  return hash(std::move(text));
}

}  // namespace evictd
