#include "daemon/app/proposal.h"

#include <fmt/format.h>

#include <algorithm>

#include "daemon/base/json.h"
#include "mapping/rules.h"
#include "mapping/table_name.h"

namespace evictd {
namespace {

// Of one table, and of a file: more is no proposal that somebody reads.
constexpr std::size_t kUniqueMax = 8;
constexpr std::size_t kForeignMax = 16;
constexpr std::size_t kRulesProposedMax = 500;

bool is_printable(std::string_view name) {
  return !name.empty() && std::none_of(name.begin(), name.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; });
}

// "{slug}"; "{\"Odd name\"}" where the name has other signs.
std::string placeholder(std::string_view column) {
  const bool is_plain = std::all_of(column.begin(), column.end(), [](unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  });
  if (is_plain) return fmt::format("{{{}}}", column);
  std::string quoted;
  for (const char c : column) {
    quoted += c;
    if (c == '"') quoted += c;
  }
  return "{\"" + quoted + "\"}";
}

// In a comment: no line may end early.
std::string shown(std::string_view text) {
  std::string out(text);
  std::replace_if(out.begin(), out.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
  return out;
}

// The prefix in use whose last part is one of `words`, or the first of them.
struct KeyPrefix {
  std::string text;
  std::size_t count = 0;
};
KeyPrefix prefix_of(const std::vector<std::string>& words, const KeyPrefixes& prefixes) {
  KeyPrefix best{words.front(), 0};
  for (const auto& [prefix, count] : prefixes) {
    const std::string last = prefix.substr(prefix.rfind(':') + 1);
    if (std::find(words.begin(), words.end(), last) == words.end() || count <= best.count) continue;
    best = {prefix, count};
  }
  return best;
}

// Literal text of a template.
std::string literal(std::string_view text) {
  std::string out;
  for (const char c : text) {
    out += c;
    if (c == '{' || c == '}') out += c;
  }
  return out;
}

// Of a prefix: what follows it in those keys need not be this column.
std::string seen(const std::string& prefix, std::size_t count, const ProposalSources& sources) {
  const std::size_t of = sources.keys_seen;
  if (!sources.is_redis_seen) return "a guess: Redis was not reached, and its keys were not compared with";
  if (of == 0) return "a guess: Redis has no key to compare with";
  const std::string keys = fmt::format("{} key{} in Redis", of, of == 1 ? "" : "s");
  return count == 0 ? fmt::format("a guess: none of {} begins with '{}:'", keys, shown(prefix))
                    : fmt::format("{} of {} begin{} with '{}:'", count, keys, count == 1 ? "s" : "", shown(prefix));
}

// Why no rule is proposed for it; empty: one is.
std::string why_left_out(const SurveyedTable& table) {
  if (table.is_unlogged) return "unlogged: PostgreSQL does not tell its changes; ALTER TABLE ... SET LOGGED";
  if (!is_printable(table.schema) || !is_printable(table.name)) return "its name has signs that do not print: write its rule by hand";
  if (table.primary_key.empty()) return "it has no primary key to name a row's key by";
  if (!table.has_identity) return "it, or a table below it, has no replica identity: once published, UPDATE and DELETE would fail";
  for (const std::string& column : table.primary_key) {
    if (!is_printable(column)) return fmt::format("the name of column '{}' has signs that do not print", shown(column));
  }
  return {};
}

// As a rule names it, in YAML.
std::string table_setting(const SurveyedTable& table) {
  const std::string written = written_table_name({table.schema, table.name});
  const bool is_plain = std::all_of(written.begin(), written.end(), [](unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
  });
  return is_plain ? written : json_quoted(written);
}

// What a table's keys may begin with. "tag:" is what the sets of tags begin with: deleted as a key, one would be forgotten.
std::vector<std::string> first_names(const std::string& table) {
  std::vector<std::string> names{singular(table), table};
  std::erase_if(names, [](const std::string& name) { return name + ":" == kTagPrefix; });
  if (names.empty()) names.push_back(table + "_row");
  return names;
}

std::string rule_of(const SurveyedTable& table, const ProposalSources& sources) {
  const KeyPrefix prefix = prefix_of(first_names(table.name), sources.prefixes);
  std::string key = literal(prefix.text);
  for (const std::string& column : table.primary_key) key += ":" + placeholder(column);
  std::string out = fmt::format("- table: {}\n  keys:\n    - {}   # primary key; {}\n", table_setting(table),
                                json_quoted(key), seen(prefix.text, prefix.count, sources));
  bool needs_old = false;
  std::size_t unique = 0;
  for (const std::string& column : table.unique_columns) {
    if (!is_printable(column) || unique++ == kUniqueMax) continue;
    const auto found = sources.prefixes.find(prefix.text + ":" + column);
    const std::size_t count = found == sources.prefixes.end() ? 0 : found->second;
    out += fmt::format("    - {}   # unique; {}\n", json_quoted(literal(prefix.text + ":" + column) + ":" + placeholder(column)),
                       seen(prefix.text + ":" + column, count, sources));
    needs_old = true;
  }
  std::string tags;
  std::vector<std::string> tagged;
  for (const SurveyedTable::ForeignKey& key_of : table.foreign_keys) {
    const bool is_known = std::find(tagged.begin(), tagged.end(), key_of.column) != tagged.end();
    if (!is_printable(key_of.column) || !is_printable(key_of.table) || is_known || tagged.size() == kForeignMax) continue;
    tagged.push_back(key_of.column);
    tags += fmt::format("    - {}   # a guess: what lists the rows of one {}.{}\n",
                        json_quoted(literal(singular(key_of.table)) + ":" + placeholder(key_of.column)), shown(key_of.schema), key_of.table);
    needs_old = needs_old || std::find(table.primary_key.begin(), table.primary_key.end(), key_of.column) == table.primary_key.end();
  }
  if (!tags.empty()) out += "  tags:\n" + tags;
  if (needs_old) {
    out += "  # A row that moves from one value to another has keys of both: PostgreSQL sends the old one with REPLICA IDENTITY\n"
           "  # FULL ('evictd check --sql' has the statement). Until then such a change purges the pattern.\n";
  }
  return out;
}

}  // namespace

std::string singular(std::string_view name) {
  const auto without = [&](std::size_t count) { return std::string(name.substr(0, name.size() - count)); };
  if (name.size() > 4 && name.ends_with("ies")) return without(3) + "y";
  for (const char* ending : {"sses", "shes", "ches", "xes", "zes"}) {
    if (name.size() > 4 && name.ends_with(ending)) return without(2);
  }
  if (name.size() > 3 && name.ends_with('s') && !name.ends_with("ss") && !name.ends_with("us") && !name.ends_with("is")) {
    return without(1);
  }
  return std::string(name);
}

KeyPrefixes prefixes_of(const std::vector<std::string>& keys) {
  KeyPrefixes prefixes;
  for (const std::string& key : keys) {
    if (key.starts_with(kTagPrefix)) continue;
    for (std::size_t at = key.find(':'); at != std::string::npos; at = key.find(':', at + 1)) ++prefixes[key.substr(0, at)];
  }
  return prefixes;
}

Proposal propose(const ProposalSources& sources) {
  Proposal proposal;
  proposal.config = fmt::format(
      "# Proposed by 'evictd init' for database {}. Next: evictd check -c evictd.yaml\n"
      "postgres:\n{}  url: {}\nredis:\n{}  url: {}\nrules: rules.yaml\n",
      shown(sources.survey.database),
      sources.had_postgres_password ? "  # The password comes from PGPASSWORD, or from a file that PGPASSFILE names.\n" : "",
      json_quoted(sources.postgres_url),
      sources.had_redis_password ? "  # REDIS_PASSWORD comes from the environment.\n" : "", json_quoted(sources.redis_url));
  std::string& left_out = proposal.reasons;
  proposal.rules = fmt::format(
      "# Proposed by 'evictd init' from the tables of database {}: a beginning, to be read and changed.\n"
      "# What a reader caches under another name than a key below is not deleted. Take out what nobody caches.\n"
      "# docs/rules.md says what else a rule can do; 'evictd rules test' tests them, 'evictd explain' shows them at work.\n\n",
      shown(sources.survey.database));
  for (const SurveyedTable& table : sources.survey.tables) {
    std::string why = why_left_out(table);
    if (why.empty() && proposal.tables == kRulesProposedMax) why = "too many tables for one proposal";
    if (!why.empty()) {
      left_out += fmt::format("# {}.{}: {}\n", shown(table.schema), shown(table.name), why);
      ++proposal.left_out;
      continue;
    }
    proposal.rules += rule_of(table, sources) + "\n";
    ++proposal.tables;
  }
  if (!left_out.empty()) proposal.rules += "# No rule is proposed for\n" + left_out;
  return proposal;
}

}  // namespace evictd
