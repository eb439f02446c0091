#include "daemon/app/check_files.h"
#include "daemon/base/plain_text.h"
#include "daemon/base/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <tuple>

#include "daemon/base/json.h"
#include "daemon/app/metrics.h"
#include "daemon/flow/cache_rules.h"
#include "mapping/template.h"
#include "mapping/yaml.h"

namespace evictd {
namespace {

// A reader slower than this is nothing unusual; tombstones that live shorter do not protect its
// fill (G3).
constexpr std::chrono::milliseconds kTombstoneTtlLow{10'000};
// A plain fill by a reader slower than this may stay stale (G4).
constexpr std::chrono::milliseconds kSettleLow{100};

std::string rule_object(const RuleInfo& rule) {
  return fmt::format("rule '{}' ({})", rule.name, rule.place.to_string());
}

// "{a}{b}": 'x'+'yz' and 'xy'+'z' give the same key, so two rows share it.
bool has_adjacent_placeholders(std::string_view text) {
  std::string plain;  // without literal braces, which are doubled
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool doubled =
        (text[i] == '{' || text[i] == '}') && i + 1 < text.size() && text[i + 1] == text[i];
    if (doubled) {
      plain += '.';
      ++i;
    } else {
      plain += text[i];
    }
  }
  return plain.find("}{") != std::string::npos;
}

void check_collisions(const RuleSet& rules, Findings& findings) {
  std::map<std::pair<std::string, std::string>, const RuleInfo*> seen;  // (table, template)
  for (const RuleInfo& rule : rules.rules()) {
    if (!rule.implied_via.empty()) continue;
    for (const std::vector<std::string>* templates : {&rule.key_templates, &rule.tag_templates}) {
      for (const std::string& text : *templates) {
        if (has_adjacent_placeholders(text)) {
          findings.push_back({"CF002", Severity::kWarning, rule_object(rule),
                              fmt::format("two placeholders of '{}' touch each other, so that "
                                          "different rows can make the same key",
                                          text),
                              "put a separator between them, for example ':'"});
        }
        const auto [other, is_new] = seen.try_emplace({rule.qualified_table(), text}, &rule);
        if (!is_new && other->second != &rule) {
          findings.push_back(
              {"CF002", Severity::kWarning, rule_object(rule),
               fmt::format("'{}' is also in {}, for the same table: each change deletes it twice",
                           text, rule_object(*other->second)),
               "remove it from one of the rules, unless their conditions differ"});
        }
      }
    }
  }
}

// A key that is nothing but a hash tag, "{a:7}", has the marker of "a:7". Where two templates always meet so, the rules are refused
// (rules_parser.cpp); here those that meet by their values.
void check_markers(const RuleSet& rules, Findings& findings) {
  for (const RuleInfo& rule : rules.rules()) {
    if (!rule.implied_via.empty()) continue;
    for (const std::string& text : rule.key_templates) {
      const Result<Template> tagged = parse_template(text);
      const std::optional<Template> inside = tagged ? inside_hash_tag(*tagged) : std::nullopt;
      if (!inside) continue;
      for (const RuleInfo& other : rules.rules()) {
        if (!other.implied_via.empty() || (rule.fill != FillMode::kChecked && other.fill != FillMode::kChecked)) continue;
        for (const std::string& its : other.key_templates) {
          const Result<Template> compiled = parse_template(its);
          const auto ends_a_tag = [](const std::string& literal) { return literal.find('}') != std::string::npos; };
          if (!compiled || std::any_of(compiled->literals.begin(), compiled->literals.end(), ends_a_tag)) continue;
          if (inside->literals == compiled->literals || !can_render_alike(*inside, *compiled)) continue;
          findings.push_back({"CF002", Severity::kWarning, rule_object(rule),
                              fmt::format("a value can make '{}' a hash tag around a key of '{}' ({}): the two have one marker, and under 'fill: "
                                          "checked' one would be taken for the other",
                                          text, its, rule_object(other)),
                              fmt::format("give one of them another name, for example '{}:v'", text)});
        }
      }
    }
  }
}

// A tag's set lies in Redis under a name that a key's template, or its pattern, may have as well. Deleted as that key, it is forgotten.
void check_sets_of_tags(const RuleSet& rules, Findings& findings) {
  for (const RuleInfo& rule : rules.rules()) {
    if (!rule.implied_via.empty()) continue;
    for (const std::string& text : rule.key_templates) {
      const Result<Template> key = parse_template(text);
      for (const RuleInfo& other : rules.rules()) {
        if (!key || !other.implied_via.empty() || other.tags_mode != TagsMode::kMembers) continue;
        for (const std::string& tag : other.tag_templates) {
          const Result<Template> set = parse_template(std::string(kTagPrefix) + tag);
          if (!set || !can_render_alike(*key, *set)) continue;
          findings.push_back({"CF002", Severity::kWarning, rule_object(rule),
                              fmt::format("'{}', or its pattern, can name the set of the tag '{}' ({}), '{}{}': deleted as a key, the set is forgotten, "
                                          "and the values that were listed in it stay stale",
                                          text, tag, rule_object(other), kTagPrefix, tag),
                              "begin the key with a name that no tag has"});
        }
      }
    }
  }
}

// What a Redis glob matches, roughly: whatever is no plain character stands for any text.
Template template_of_glob(std::string_view glob) {
  Template made;
  made.literals.emplace_back();
  for (std::size_t i = 0; i < glob.size(); ++i) {
    if (glob[i] == '\\' && i + 1 < glob.size()) {
      made.literals.back() += glob[++i];
      continue;
    }
    if (glob[i] != '*' && glob[i] != '?' && glob[i] != '[') {
      made.literals.back() += glob[i];
      continue;
    }
    if (const std::size_t end = glob.find(']', i); glob[i] == '[' && end != std::string_view::npos) i = end;
    made.literals.emplace_back();
  }
  return made;
}

// A pattern deletes whatever has the name: a counter would begin at 1 again, and meet what was cached under that number before. And
// one of a plain rule leaves nothing that would refuse the late fill of a checked reader.
void check_patterns(const RuleSet& rules, Findings& findings) {
  const auto is_written = [](const RuleInfo& rule) { return rule.implied_via.empty(); };
  const auto warn = [&](const RuleInfo& rule, const std::string& glob, const std::string& text, const RuleInfo& other, const char* what, const char* fix) {
    findings.push_back({"CF002", Severity::kWarning, rule_object(rule), fmt::format("'{}' matches '{}' ({}): {}", glob, text, rule_object(other), what), fix});
  };
  for (const RuleInfo& rule : rules.rules()) {
    if (!is_written(rule)) continue;
    for (const Pattern& pattern : rule.patterns) {
      if (pattern.is_tag || pattern.is_bump || pattern.is_surrogate || pattern.is_semantic) continue;
      const Template matched = template_of_glob(pattern.glob);
      const bool is_purge = std::find(rule.purge_patterns.begin(), rule.purge_patterns.end(), pattern.glob) != rule.purge_patterns.end();
      const auto meets = [&](const std::string& text) {
        const Result<Template> compiled = parse_template(text);
        return compiled && can_render_alike(matched, *compiled);
      };
      for (const RuleInfo& other : rules.rules()) {
        if (!is_written(other)) continue;
        for (const std::string& counter : other.bump_templates) {
          if (!meets(counter)) continue;
          warn(rule, pattern.glob, counter, other, "that counter would be deleted and begin at 1 again, where readers find what was cached long ago",
               "give counters names that no pattern of keys matches");
        }
        if (!is_purge || rule.fill == FillMode::kChecked || other.fill != FillMode::kChecked) continue;
        for (const std::string& key : other.key_templates) {
          if (!meets(key)) continue;
          warn(rule, pattern.glob, key, other, "those keys have checked readers, and a purge of a rule with 'fill: plain' does not refuse their late fills",
               "set fill: checked for this rule, too");
        }
      }
    }
  }
}

// A '*' in a key is a character like any other; whoever writes one may mean all keys.
void check_stars(const RuleSet& rules, Findings& findings) {
  for (const RuleInfo& rule : rules.rules()) {
    if (!rule.implied_via.empty()) continue;
    for (const std::vector<std::string>* templates : {&rule.key_templates, &rule.tag_templates, &rule.bump_templates}) {
      for (const std::string& text : *templates) {
        const Result<Template> compiled = parse_template(text);
        const auto has_star = [](const std::string& literal) { return literal.find('*') != std::string::npos; };
        if (!compiled || std::none_of(compiled->literals.begin(), compiled->literals.end(), has_star)) continue;
        findings.push_back({"CF006", Severity::kWarning, rule_object(rule),
                            fmt::format("'*' in '{}' is text: only a key with a star in it is deleted", text),
                            "for all keys of a kind give `purge` a pattern; for those of one row list them under a tag"});
      }
    }
  }
}

// A template without a placeholder names one key for all rows, as a list of them has. With the sign of another language's
// placeholder in it ('%s', '$id', '{{id}}', '<id>') it is hardly meant so.
void check_foreign_placeholders(const RuleSet& rules, Findings& findings) {
  for (const RuleInfo& rule : rules.rules()) {
    if (!rule.implied_via.empty()) continue;
    for (const std::vector<std::string>* templates :
         {&rule.key_templates, &rule.tag_templates, &rule.bump_templates, &rule.surrogate_templates}) {
      for (const std::string& text : *templates) {
        const Result<Template> compiled = parse_template(text);
        if (!compiled || !compiled->placeholders.empty() || text.find_first_of("%$<{") == std::string::npos) continue;
        findings.push_back({"CF009", Severity::kWarning, rule_object(rule),
                            fmt::format("'{}' has no placeholder: every change deletes '{}', and nothing else", text, fmt::join(compiled->literals, "")),
                            "write {column}, in single braces, where the value of a column belongs"});
      }
    }
  }
}

void check_times(const Config& config, const RuleSet& rules, Findings& findings) {
  for (const CacheSettings& cache : config.caches) {
    if (cache.edge || cache.redis.tombstone_ttl >= kTombstoneTtlLow) continue;
    findings.push_back(
        {"CF004", Severity::kWarning, cache.redis.tombstone_ttl_place.to_string(),
         fmt::format("tombstone_ttl is {}: a reader that takes longer from its SELECT to its fill "
                     "can store an old value",
                     duration_text(cache.redis.tombstone_ttl)),
         "set it above the time of the slowest reader, for example tombstone_ttl: 60s"});
  }
  for (const RuleInfo& rule : rules.rules()) {
    if (rule.fill == FillMode::kPlain && rule.settle < kSettleLow) {
      findings.push_back(
          {"CF004", Severity::kWarning, rule_object(rule),
           fmt::format("settle is {}: a reader that takes longer from its SELECT to its SET leaves "
                       "an old value behind",
                       duration_text(rule.settle)),
           "set it above the time of the slowest reader, for example settle: 1s"});
    }
  }
}

// Surrogate keys that nobody purges, and an edge that nothing is purged at.
void check_edges(const Config& config, const RuleSet& rules, Findings& findings) {
  const auto has_surrogates = [](const RuleInfo& rule) { return !rule.surrogate_templates.empty(); };
  for (const CacheSettings& cache : config.caches) {
    if (!cache.edge) continue;
    const bool any = std::any_of(rules.rules().begin(), rules.rules().end(), [&](const RuleInfo& rule) {
      return has_surrogates(rule) && acts_on(rule, cache.name);
    });
    if (any) continue;
    findings.push_back({"CF007", Severity::kWarning, cache.place.to_string(),
                        fmt::format("no rule has surrogate keys for cache '{}': nothing is ever purged there", cache.name),
                        "add surrogate_keys: [...] to the rules of what its responses are made from"});
  }
  for (const RuleInfo& rule : rules.rules()) {
    if (!has_surrogates(rule)) continue;
    const bool any = std::any_of(config.caches.begin(), config.caches.end(), [&](const CacheSettings& cache) {
      return cache.edge && acts_on(rule, cache.name);
    });
    if (any) continue;
    findings.push_back({"CF007", Severity::kWarning, rule_object(rule), "its surrogate keys are purged nowhere: no cache is an edge",
                        "add one to 'caches' (docs/edge.md), or remove surrogate_keys"});
  }
}
bool is_loopback(const std::string& host) { return host == "localhost" || host == "::1" || host.starts_with("127."); }

struct Totals {
  std::size_t errors = 0;
  std::size_t warnings = 0;
  std::size_t notes = 0;
};

Totals totals_of(const std::vector<CheckSection>& sections) {
  Totals totals;
  for (const CheckSection& section : sections) {
    for (const Finding& finding : section.findings) {
      ++(finding.severity == Severity::kError     ? totals.errors
         : finding.severity == Severity::kWarning ? totals.warnings
                                                  : totals.notes);
    }
  }
  return totals;
}

const char* severity_name(Severity severity) {
  switch (severity) {
    case Severity::kError:
      return "error";
    case Severity::kWarning:
      return "warning";
    case Severity::kInfo:
      return "note";
  }
  return "error";
}

}  // namespace

Finding file_finding(const Error& error) {
  return {"CF001", Severity::kError, "files", error.text, error.hint};
}

Findings check_files(const Config& config, const RuleSet& rules) {
  Findings findings;
  check_collisions(rules, findings);
  check_markers(rules, findings);
  check_sets_of_tags(rules, findings);
  check_patterns(rules, findings);
  check_stars(rules, findings);
  check_foreign_placeholders(rules, findings);
  check_times(config, rules, findings);
  check_edges(config, rules, findings);
  if (config.listen && !is_loopback(config.listen->host)) {
    findings.push_back({"CF008", Severity::kInfo, "http.listen",
                        fmt::format("'{}': whoever reaches it reads the names of tables, rules and hosts; it has no login",
                                    config.listen->to_string()),
                        "listen on 127.0.0.1, or put a network policy or a proxy with a login before it"});
  }
  if (rules.rules().size() > kRuleLabelsMax) {
    findings.push_back({"CF005", Severity::kWarning, "metrics",
                        fmt::format("{} rules: the metrics of those after the first {} share the "
                                    "label rule=\"other\"",
                                    rules.rules().size(), kRuleLabelsMax),
                        "put the rules that you want to see singly first, or join rules"});
  }
  return findings;
}

int check_exit_code(const std::vector<CheckSection>& sections) {
  bool unreachable = false;
  for (const CheckSection& section : sections) {
    for (const Finding& finding : section.findings) {
      if (finding.severity != Severity::kError) continue;
      if (!finding.is_unreachable) return 2;
      unreachable = true;
    }
  }
  return unreachable ? 1 : 0;
}

namespace {

// What is said once: findings that one step mends, or notes of one kind; of one kind altogether, where a screen has no room for more.
enum class Gathered { kByStep, kByKind };

struct Group {
  const Finding* first = nullptr;
  std::vector<std::string_view> objects;
  std::vector<std::string_view> causes;
  std::vector<std::string_view> fixes;
};

// A first check of many rules is read from its beginning: what is longer than this is gathered by kind.
constexpr std::size_t kScreenLines = 50;

// How much of a group is written out; the JSON form has all of it.
constexpr std::size_t kObjectsShown = 4;
constexpr std::size_t kCausesShown = 2;

std::vector<Group> grouped(const Findings& findings, Gathered gathered) {
  std::vector<Group> groups;
  std::map<std::tuple<std::string_view, Severity, std::string_view>, std::size_t> seen;
  for (const Finding& finding : findings) {
    const bool by_kind = gathered == Gathered::kByKind || finding.severity == Severity::kInfo;
    const std::string_view by = by_kind               ? std::string_view()
                                : finding.fix.empty() ? std::string_view(finding.cause)
                                                      : std::string_view(finding.fix);
    const auto [at, is_new] = seen.try_emplace({finding.id, finding.severity, by}, groups.size());
    if (is_new) groups.push_back({&finding, {}, {}, {}});
    Group& group = groups[at->second];
    const auto add = [](std::vector<std::string_view>& to, std::string_view text) {
      if (!text.empty() && std::find(to.begin(), to.end(), text) == to.end()) to.push_back(text);
    };
    add(group.objects, finding.object);
    add(group.causes, finding.cause);
    add(group.fixes, finding.fix);
  }
  return groups;
}

std::string title_text(const Group& group) {
  const std::size_t shown = std::min(kObjectsShown, group.objects.size());
  std::string out = fmt::format("  {} {}  {}", group.first->id, severity_name(group.first->severity),
                                fmt::join(group.objects.begin(), group.objects.begin() + static_cast<std::ptrdiff_t>(shown), ", "));
  if (shown < group.objects.size()) out += fmt::format(" and {} more", group.objects.size() - shown);
  return out + '\n';
}

std::string step_text(const Group& group) {
  std::string out = title_text(group);
  const std::size_t causes = group.causes.size() > kCausesShown + 1 ? kCausesShown : group.causes.size();
  for (std::size_t i = 0; i < causes; ++i) out += fmt::format("    {}\n", group.causes[i]);
  if (causes < group.causes.size())
    out += fmt::format("    and {} more like it (all of them: --json)\n", group.causes.size() - causes);
  if (!group.first->fix.empty()) out += fmt::format("    fix: {}\n", group.first->fix);
  return out;
}

std::string first_of(const std::vector<std::string_view>& texts) {
  std::string out(texts.front());
  if (texts.size() > 1) out += fmt::format(" (and {} more like it)", texts.size() - 1);
  return out;
}

std::string kind_text(const Group& group) {
  std::string out = title_text(group);
  if (!group.causes.empty()) out += fmt::format("    {}\n", first_of(group.causes));
  if (!group.fixes.empty()) out += fmt::format("    fix: {}\n", first_of(group.fixes));
  return out;
}

std::string sections_text(const std::vector<CheckSection>& sections, Gathered gathered) {
  std::string out;
  for (const CheckSection& section : sections) {
    out += section.title;
    out += section.findings.empty() ? ": nothing to say\n" : "\n";
    for (const Group& group : grouped(section.findings, gathered))
      out += gathered == Gathered::kByKind ? kind_text(group) : step_text(group);
  }
  return out;
}

}  // namespace

std::string check_text(const std::vector<CheckSection>& sections) {
  std::string out = sections_text(sections, Gathered::kByStep);
  // One line more tells the totals.
  if (static_cast<std::size_t>(std::count(out.begin(), out.end(), '\n')) + 1 > kScreenLines) {
    out = sections_text(sections, Gathered::kByKind);
    out += "gathered by kind: all of it with --json, what PostgreSQL lacks as one script with --sql\n";
  }
  const Totals totals = totals_of(sections);
  if (totals.errors + totals.warnings == 0) {
    out += "all is well\n";
  } else {
    out += fmt::format("{}, {}\n", counted(totals.errors, "error"),
                       counted(totals.warnings, "warning"));
  }
  return plain_lines(out);
}

std::string check_json(const std::vector<CheckSection>& sections) {
  const Totals totals = totals_of(sections);
  JsonWriter json;
  json.begin_object().field("ok", totals.errors == 0);
  json.field("errors", std::uint64_t{totals.errors});
  json.field("warnings", std::uint64_t{totals.warnings}).begin_array("findings");
  for (const CheckSection& section : sections) {
    for (const Finding& finding : section.findings) {
      json.begin_object().field("id", finding.id);
      json.field("severity", severity_name(finding.severity)).field("object", finding.object);
      json.field("cause", finding.cause).field("fix", finding.fix).end_object();
    }
  }
  json.end_array().end_object();
  return json.text() + "\n";
}

}  // namespace evictd
