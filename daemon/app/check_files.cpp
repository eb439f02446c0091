#include "daemon/app/check_files.h"

#include <fmt/core.h>

#include <array>
#include <map>

#include "daemon/base/json.h"
#include "daemon/app/metrics.h"
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

void check_times(const Config& config, const RuleSet& rules, Findings& findings) {
  for (const CacheSettings& cache : config.caches) {
    if (cache.redis.tombstone_ttl >= kTombstoneTtlLow) continue;
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

std::string counted(std::size_t count, std::string_view word) {
  return fmt::format("{} {}{}", count, word, count == 1 ? "" : "s");
}

}  // namespace

Finding file_finding(const Error& error) {
  return {"CF001", Severity::kError, "files", error.text, error.hint};
}

Findings check_files(const Config& config, const RuleSet& rules) {
  Findings findings;
  check_collisions(rules, findings);
  check_times(config, rules, findings);
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

std::string check_text(const std::vector<CheckSection>& sections) {
  std::string out;
  for (const CheckSection& section : sections) {
    out += section.title;
    out += section.findings.empty() ? ": nothing to say\n" : "\n";
    for (const Finding& finding : section.findings) {
      out += fmt::format("  {} {}  {}\n    {}\n", finding.id, severity_name(finding.severity),
                         finding.object, finding.cause);
      if (!finding.fix.empty()) out += fmt::format("    fix: {}\n", finding.fix);
    }
  }
  const Totals totals = totals_of(sections);
  if (totals.errors + totals.warnings == 0) {
    out += "all is well\n";
  } else {
    out += fmt::format("{}, {}\n", counted(totals.errors, "error"),
                       counted(totals.warnings, "warning"));
  }
  return out;
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
