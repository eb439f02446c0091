#include "mapping/rules_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "mapping/did_you_mean.h"
#include "mapping/json_path.h"
#include "mapping/rule_digest.h"
#include "mapping/rule_values.h"
#include "mapping/rules_compiled.h"
#include "mapping/semantic_reader.h"
#include "mapping/utf8.h"
#include "mapping/via.h"
#include "mapping/yaml.h"

namespace evictd {

namespace {

using std::chrono::milliseconds;

constexpr std::pair<std::string_view, FillMode> kFillModes[] = {{"plain", FillMode::kPlain},
                                                                {"checked", FillMode::kChecked}};
constexpr std::pair<std::string_view, OnMissing> kOnMissing[] = {
    {"purge", OnMissing::kPurge}, {"stop", OnMissing::kStop}, {"ignore", OnMissing::kIgnore}};
constexpr std::pair<std::string_view, RuleMode> kRuleModes[] = {{"delete", RuleMode::kDelete},
                                                                {"stale", RuleMode::kStale}};
constexpr std::pair<std::string_view, AuditCompare> kAuditCompares[] = {{"text", AuditCompare::kText},
                                                                       {"json", AuditCompare::kJson}};
constexpr std::pair<std::string_view, OnOverflow> kOnOverflow[] = {{"purge", OnOverflow::kPurge}, {"stop", OnOverflow::kStop}};
constexpr std::pair<std::string_view, TagsMode> kTagsModes[] = {{"members", TagsMode::kMembers},
                                                                {"lazy", TagsMode::kLazy}};

constexpr std::uint8_t kAllOperations = 0x0f;

constexpr std::size_t kNameBytesMax = 128;  // it becomes a metric label

// What `defaults:` may set for every rule of the file.
struct Defaults {
  FillMode fill = FillMode::kPlain;
  milliseconds settle{1000};
  OnMissing on_missing = OnMissing::kPurge;
  std::uint64_t collapse_after = 10'000'000;
  milliseconds purge_every{1000};
};

// The settings that a rule and `defaults` have in common.
template <typename Settings>
void read_common(YamlMap& map, Settings& settings) {
  map.read("fill", settings.fill, kFillModes);
  map.read("settle", settings.settle, milliseconds(0), kSettleMax);
  map.read("on_missing", settings.on_missing, kOnMissing);
  map.read("collapse_after", settings.collapse_after, 1, kCollapseAfterMax);
  map.read("purge_every", settings.purge_every, milliseconds(0), kPurgeEveryMax);
}

Result<Defaults> parse_defaults(const YamlNode* node) {
  Defaults defaults;
  if (node == nullptr) return defaults;
  YamlMap map(*node, "'defaults'");
  read_common(map, defaults);
  if (Result<void> done = map.finish(); !done) return tl::unexpected(done.error());
  return defaults;
}

// Reads one rule. Errors go to the YamlMap, which returns the first of the file.
class RuleParser {
 public:
  RuleParser(const YamlNode& node, const Defaults& defaults, RuleInfo& info, CompiledRule& rule)
      : map_(node, what(node)), info_(info), rule_(rule) {
    info_.place = node.place;
    info_.fill = defaults.fill;
    info_.settle = defaults.settle;
    info_.on_missing = defaults.on_missing;
    info_.collapse_after = defaults.collapse_after;
    info_.purge_every = defaults.purge_every;
    info_.operations = kAllOperations;
  }

  Result<void> parse() {
    if (const YamlNode* table = map_.require("table")) {
      Result<TableName> name = parse_table(*table);
      map_.take(name, *table);
      if (name) {
        info_.schema = std::move(name->schema);
        info_.table = std::move(name->table);
      }
    }
    read_name();
    if (const YamlNode* on = map_.find("on"))
      read_into(*on, parse_operations(*on), info_.operations);
    read_columns("when_changed", rule_.when_changed, rule_.when_changed_place);
    read_columns("ignore_changed", rule_.ignore_changed, rule_.ignore_changed_place);
    info_.ignore_changed = rule_.ignore_changed;
    read_where();
    if (const YamlNode* via = map_.find("via")) read_into(*via, parse_via(*via), joins_);
    map_.read("fan_out", info_.fan_out, 1, kFanOutMax);
    map_.read("on_overflow", info_.on_overflow, kOnOverflow);
    read_templates("keys", InvalidationKind::kKey, info_.key_templates);
    read_templates("tags", InvalidationKind::kTag, info_.tag_templates);
    read_templates("bump", InvalidationKind::kBump, info_.bump_templates);
    read_templates("surrogate_keys", InvalidationKind::kSurrogate, info_.surrogate_templates);
    read_semantic();
    rule_.first_purge_pattern = static_cast<std::uint32_t>(info_.patterns.size());
    read_purge();
    read_common(map_, info_);
    Place immutable_place;
    read_columns("immutable", rule_.immutable, immutable_place);
    read_reader_settings();
    read_caches();
    if (const YamlNode* refresh = map_.find("refresh")) read_refresh(*refresh);
    audit_as_refreshed();
    if (const YamlNode* audit = map_.find("audit")) read_audit(*audit);
    check_together();
    follow_matches();
    return map_.finish();
  }

  const std::vector<Join>& joins() const { return joins_; }

 private:
  // "the rule for 'public.users'"
  static std::string what(const YamlNode& node) {
    for (const YamlEntry& entry : node.entries) {
      if (entry.name != "table" || entry.value.kind != YamlNode::Kind::kText) continue;
      return "the rule for '" + printable(entry.value.text) + "'";
    }
    return "this rule";
  }

  template <typename T>
  void read_into(const YamlNode& node, Result<T> result, T& into) {
    map_.take(result, node);
    if (result) into = std::move(*result);
  }

  void refuse(const Place& place, std::string text, std::string hint = {}) {
    map_.take(fail_at(place, std::move(text), std::move(hint)), place);
  }

  void read_name() {
    if (!map_.read("name", info_.name)) return;
    const bool plain = std::none_of(info_.name.begin(), info_.name.end(),
                                    [](char c) { return static_cast<unsigned char>(c) < 0x20; });
    if (info_.name.empty() || info_.name.size() > kNameBytesMax || !plain) {
      const YamlNode& node = *map_.find("name");
      refuse(node.place, fmt::format("'name': expected one line of 1 to {} bytes, got {}",
                                     kNameBytesMax, describe(node)));
    }
  }

  void read_columns(std::string_view setting, std::vector<std::string>& columns, Place& place) {
    if (!map_.read(setting, columns)) return;
    const YamlNode& node = *map_.find(setting);
    place = node.place;
    const bool has_empty = std::find(columns.begin(), columns.end(), "") != columns.end();
    if (columns.empty() || has_empty) {
      refuse(node.place, fmt::format("'{}': expected at least one column, got {}", setting,
                                     columns.empty() ? "an empty list" : "an empty name"));
    }
  }

  void read_where() {
    const YamlNode* where = map_.find("where");
    if (where == nullptr) return;
    info_.where_place = where->place;
    if (where->kind != YamlNode::Kind::kMap || where->entries.empty()) {
      refuse(where->place,
             fmt::format("'where': expected a map of columns and values, got {}",
                         where->kind == YamlNode::Kind::kMap ? "an empty one" : describe(*where)),
             "write where: {status: [published, hidden]}, or where: {stock: {gt: 0}}");
      return;
    }
    for (const YamlEntry& entry : where->entries) {
      Result<Condition> condition = parse_condition(entry);
      map_.take(condition, entry.value);
      if (condition) rule_.where.push_back(std::move(*condition));
    }
  }

  // Calls `read_one(text, place)` for each text of the setting.
  template <typename ReadOne>
  void read_each(std::string_view setting, std::string_view thing, std::vector<std::string>& texts,
                 ReadOne read_one) {
    if (!map_.read(setting, texts)) return;
    const YamlNode& node = *map_.find(setting);
    if (texts.empty()) {
      refuse(node.place,
             fmt::format("'{}': expected at least one {}, got an empty list", setting, thing));
    }
    if (templates_ + texts.size() > kTemplatesPerRuleMax) {
      refuse(node.place, fmt::format("expected at most {} keys, tags and patterns in a rule",
                                     kTemplatesPerRuleMax));
      texts.clear();
      return;
    }
    templates_ += texts.size();
    for (std::size_t i = 0; i < texts.size(); ++i) {
      read_one(texts[i], node.kind == YamlNode::Kind::kList ? node.items[i].place : node.place);
    }
  }

  void read_templates(std::string_view setting, InvalidationKind kind,
                      std::vector<std::string>& texts) {
    const std::string_view noun = kind == InvalidationKind::kSurrogate ? "surrogate key" : invalidation_kind_name(kind);
    read_each(setting, noun, texts, [&](const std::string& text, const Place& place) {
      Result<Template> compiled = parse_template(text);
      if (!compiled) {
        refuse(place, fmt::format("{} '{}': {}", noun, printable(text), compiled.error().text),
               compiled.error().hint);
        return;
      }
      const Result<std::size_t> join = take_join(*compiled, joins_);
      if (!join) {
        refuse(place, fmt::format("{} '{}': {}", noun, printable(text), join.error().text), join.error().hint);
        return;
      }
      const bool is_tag = kind == InvalidationKind::kTag;
      const bool is_surrogate = kind == InvalidationKind::kSurrogate;
      if (!is_tag && !is_surrogate && compiled->literals[0].starts_with(kReservedPrefix)) {
        refuse(place, fmt::format("{} '{}': keys that begin with '{}' are evictd's own", noun, printable(text), kReservedPrefix));
      }
      const bool is_bump = kind == InvalidationKind::kBump;
      // A tag's glob begins with the tags' own prefix, so it never reaches beyond them.
      if (!is_tag && !is_surrogate && !has_telling_text(*compiled)) {
        refuse(place,
               fmt::format("{} '{}': expected a letter or digit beside the placeholders, got none", noun,
                           printable(text)),
               "its pattern would match almost every key in Redis; begin it with a name, such as "
               "'product:{id}'");
      }
      info_.patterns.push_back({template_glob(*compiled, is_tag ? kTagPrefix : ""), is_tag, false, is_bump, is_surrogate,
                                is_surrogate && compiled->placeholders.empty() ? compiled->literals[0] : ""});
      std::uint32_t number = kOwnRow;
      if (*join != kFromRow) {
        number = lookup_to(info_, joins_, kFromRow, *join);
        LookupInfo& lookup = info_.lookups[number];
        lookup.templates.push_back(static_cast<std::uint32_t>(info_.patterns.size() - 1));
        for (const Placeholder& placeholder : compiled->placeholders) {
          const auto known = std::find(lookup.columns.begin(), lookup.columns.end(), placeholder.column);
          if (known == lookup.columns.end()) lookup.columns.push_back(placeholder.column);
        }
      }
      rule_.templates.push_back({std::move(*compiled), kind, place, number});
    });
  }

  void read_semantic() {
    const YamlNode* node = map_.find("semantic");
    if (node == nullptr) return;
    if (node->kind != YamlNode::Kind::kList || node->items.empty()) {
      refuse(node->place, fmt::format("'semantic': expected a list of orders, got {}",
                                      node->kind == YamlNode::Kind::kList ? "an empty list" : describe(*node)),
             "write semantic: [{index: \"llm:answers\", where: {source: \"doc:{id}\"}}]");
      return;
    }
    if (templates_ + node->items.size() > kTemplatesPerRuleMax) {
      refuse(node->place, fmt::format("expected at most {} keys, tags, patterns and orders in a rule", kTemplatesPerRuleMax));
      return;
    }
    templates_ += node->items.size();
    for (const YamlNode& item : node->items) read_semantic_entry(item);
  }

  void read_semantic_entry(const YamlNode& node) {
    const auto number = static_cast<std::uint32_t>(info_.semantic.size());
    SemanticInfo entry;
    SemanticReader reader(node, entry);
    map_.take(reader.read(), node);
    if (!reader.ok()) return;
    Pattern pattern;
    pattern.glob = entry.index;
    pattern.is_semantic = true;
    pattern.entry = number;
    rule_.templates.push_back({semantic_template(entry, number, reader.take_where()), InvalidationKind::kSemantic, node.place});
    info_.patterns.push_back(std::move(pattern));
    info_.semantic.push_back(std::move(entry));
  }

  void read_purge() {
    read_each(
        "purge", "pattern", info_.purge_patterns, [&](const std::string& text, const Place& place) {
          if (text.empty() || text.size() > kTemplateBytesMax) {
            refuse(place,
                   fmt::format("'purge': expected a pattern of 1 to {} bytes, got {}",
                               kTemplateBytesMax,
                               text.empty() ? "an empty one" : fmt::format("{}", text.size())));
          }
          // Patterns are Redis's own globs, in which braces are text: a key's hash tag may be part
          // of one. But whoever writes {id} means a placeholder.
          if (Result<Template> compiled = parse_template(text);
              compiled && !compiled->placeholders.empty()) {
            refuse(place,
                   fmt::format("purge '{}': placeholders are not supported in a pattern",
                               printable(text)),
                   "write '*' in their place, or '{{' and '}}' for braces that are text");
            return;
          }
          std::string glob;
          for (std::size_t i = 0; i < text.size(); ++i) {
            glob += text[i];
            if ((text[i] == '{' || text[i] == '}') && i + 1 < text.size() && text[i + 1] == text[i])
              ++i;
          }
          info_.patterns.push_back({std::move(glob)});
        });
  }

  // What readers with evictd's functions, in-process caches and versioned keys ask for.
  void read_reader_settings() {
    map_.read("mode", info_.mode, kRuleModes);
    if (info_.mode == RuleMode::kStale) info_.grace = kGraceDefault;
    map_.read("grace", info_.grace, milliseconds(1), kGraceMax);
    if (const YamlNode* version = map_.find("version")) {
      info_.version_place = version->place;
      read_version(*version);
    }
    map_.read("tags_mode", info_.tags_mode, kTagsModes);
    for (Pattern& pattern : info_.patterns) {
      pattern.is_lazy = pattern.is_tag && info_.tags_mode == TagsMode::kLazy;
    }
    if (map_.read("announce", info_.announce) &&
        (info_.announce.empty() || info_.announce.size() > kChannelBytesMax)) {
      refuse(map_.place_of("announce"), fmt::format("'announce': expected a channel of 1 to {} bytes, got {}",
                                                    kChannelBytesMax, describe(*map_.find("announce"))));
    }
  }

  void read_caches() {
    if (!map_.read("caches", info_.caches)) return;
    const YamlNode& node = *map_.find("caches");
    if (info_.caches.empty()) refuse(node.place, "'caches': expected at least one cache, got an empty list");
    for (std::size_t i = 0; i < info_.caches.size(); ++i) {
      const YamlNode& name = node.kind == YamlNode::Kind::kList ? node.items[i] : node;
      info_.cache_places.push_back(name.place);
      if (info_.caches[i].empty()) refuse(name.place, "'caches': expected the name of a cache, got an empty one");
    }
  }

  // What evictd would fill a key with is what it should hold.
  void audit_as_refreshed() {
    if (info_.refresh.query.empty()) return;
    info_.audit.query = info_.refresh.query;
    info_.audit.is_of_refresh = true;
    info_.audit.compare = AuditCompare::kJsonOrText;
    info_.audit.place = info_.refresh.place;
  }

  void read_audit(const YamlNode& node) {
    AuditInfo& audit = info_.audit;
    audit.place = node.place;
    YamlMap map(node, "'audit'");
    if (const YamlNode* query = audit.is_of_refresh ? map.find("query") : map.require("query")) {
      if (std::exchange(audit.is_of_refresh, false)) audit.compare = AuditCompare::kText;
      read_query(map, *query, "audit", kAuditQueryBytesMax, audit.query);
      // Of the rule's own row a key can be met by its row.
      const bool is_joined = !rule_.templates.empty() && rule_.templates[0].lookup != kOwnRow;
      if (is_joined) check_key_is_readable(map, query->place, "audit", "no filters, no paths, and a text between two columns");
    }
    if (const YamlNode* compare = map.find("compare")) {
      if (compare->kind == YamlNode::Kind::kMap) {
        audit.compare = AuditCompare::kPaths;
        read_audit_paths(map, *compare);
      } else {
        map.read("compare", audit.compare, kAuditCompares);
      }
    }
    map_.take(map.finish(), node);
  }

  void read_audit_paths(YamlMap& map, const YamlNode& compare) {
    if (compare.entries.empty() || compare.entries.size() > kAuditPathsMax) {
      map.take(fail_at(compare.place, fmt::format("'compare': expected 1 to {} paths with their columns, got {}",
                                                  kAuditPathsMax, compare.entries.size()),
                       "write compare: {price: price_cents}"),
               compare.place);
    }
    for (const YamlEntry& entry : compare.entries) {
      const Result<std::string> column = yaml_text(entry.value);
      map.take(column, entry.value);
      if (!column) continue;
      AuditPath& path = info_.audit.paths.emplace_back();
      path.column = *column;
      for (std::size_t from = 0; from <= entry.name.size();) {
        const std::size_t dot = std::min(entry.name.find('.', from), entry.name.size());
        path.path.push_back(entry.name.substr(from, dot - from));
        from = dot + 1;
      }
      const bool has_empty = std::find(path.path.begin(), path.path.end(), "") != path.path.end();
      if (has_empty || path.path.size() > kJsonPathStepsMax || path.column.empty()) {
        map.take(fail_at(entry.place, fmt::format("'compare': expected a path of names with dots between them and a column, "
                                                  "got '{}: {}'",
                                                  printable(entry.name), printable(path.column))),
                 entry.place);
      }
    }
  }

  void read_refresh(const YamlNode& node) {
    RefreshInfo& refresh = info_.refresh;
    refresh.place = node.place;
    YamlMap map(node, "'refresh'");
    const YamlNode* query = map.find("query");
    const YamlNode* stream = map.find("stream");
    if (query != nullptr && stream != nullptr) {
      map.take(fail_at(stream->place, "'query' and 'stream' exclude one another",
                       "with 'query' evictd fills the key, with 'stream' the application's workers do"),
               stream->place);
    } else if (query == nullptr && stream == nullptr) {
      map.take_last(fail_at(node.place, "missing setting 'query' or 'stream' in 'refresh'",
                            "with 'query' evictd fills the key: refresh: {query: \"select id, name from products where id = any($1)\", ttl: 10m}; with "
                            "'stream' the application's workers do: refresh: {stream: 'evictd:refresh'}"));
    } else if (query != nullptr) {
      (void)map.require("ttl");
      read_query(map, *query, "refresh", kRefreshQueryBytesMax, refresh.query);
      check_key_is_readable(map, query->place, "refresh",
                            "no filters, no paths, and a text between two columns; or let the application fill it: refresh: {stream: 'evictd:refresh'}");
    }
    map.read("jitter", refresh.jitter, 0, 100);
    map.read("per_second", refresh.per_second, 1, kRefreshPerSecondMax);
    map.read("ttl", refresh.ttl, std::chrono::seconds(1), kRefreshTtlMax);
    map.read("maxlen", refresh.maxlen, 1, kRefreshStreamMax);
    if (stream != nullptr && map.read("stream", refresh.stream)) {
      const bool is_own = refresh.stream.starts_with(kReservedPrefix) && !refresh.stream.starts_with(kRefreshPrefix);
      if (refresh.stream.empty() || refresh.stream.size() > kChannelBytesMax || is_own) {
        map.take(fail_at(stream->place, fmt::format("'stream': expected the name of a stream, 1 to {} bytes, got {}", kChannelBytesMax, describe(*stream)),
                         fmt::format("of names that begin with '{}', those that begin with '{}' can be one", kReservedPrefix, kRefreshPrefix)),
                 stream->place);
      }
      for (const std::string_view setting : {"ttl", "jitter", "per_second"}) {
        if (map.has(setting)) map.take(fail_at(map.place_of(setting), fmt::format("'{}' has no effect with 'stream'", setting)), map.place_of(setting));
      }
    } else if (map.has("maxlen")) {
      map.take(fail_at(map.place_of("maxlen"), "'maxlen' has no effect without 'stream'"), map.place_of("maxlen"));
    }
    map_.take(map.finish(), node);
  }

  // The columns that the query is asked with are read from the key.
  void check_key_is_readable(YamlMap& map, const Place& place, std::string_view setting, std::string hint) {
    if (rule_.templates.empty() || rule_.templates[0].kind != InvalidationKind::kKey) return;
    const Template& key = rule_.templates[0].compiled;
    bool is_readable = true;
    for (std::size_t i = 0; i < key.placeholders.size(); ++i) {
      const Placeholder& one = key.placeholders[i];
      if (!one.filters.empty() || !one.path.empty() || (i > 0 && key.literals[i].empty())) is_readable = false;
    }
    if (is_readable) return;
    map.take_last(fail_at(place,
                          fmt::format("'{}': expected a key from which its columns can be read, got '{}'", setting, printable(info_.key_templates[0])),
                          std::move(hint)));
  }

  void read_query(YamlMap& map, const YamlNode& node, std::string_view setting, std::size_t bytes_max, std::string& query) {
    if (!map.read("query", query)) return;
    query.erase(query.find_last_not_of(" \t\r\n;") + 1);
    if (query.empty() || query.size() > bytes_max) {
      map.take(fail_at(node.place, fmt::format("'query': expected a SELECT of 1 to {} bytes, got {}", bytes_max, describe(node))), node.place);
    }
    check_parameters(map, node.place, setting, query);
  }

  // One value per row has to be that of one key, and is asked for by that key's columns.
  void check_parameters(YamlMap& map, const Place& place, std::string_view setting, const std::string& query) {
    std::size_t keys = 0;
    std::vector<std::string_view> columns;
    for (const CompiledTemplate& entry : rule_.templates) {
      if (entry.kind != InvalidationKind::kKey) continue;
      ++keys;
      columns = columns_of(entry.compiled);
    }
    if (keys != 1 || info_.key_templates.size() != 1) {
      map.take_last(fail_at(place, fmt::format("'{}': expected a rule with one key, got {}", setting, info_.key_templates.size()),
                            "the query answers with one value: give each key a rule of its own"));
      return;
    }
    const std::size_t each = rule_.templates.empty() ? 0 : rule_.templates[0].compiled.each_index();
    if (!rule_.templates.empty() && each < rule_.templates[0].compiled.placeholders.size()) {
      map.take_last(fail_at(place, fmt::format("'{}': expected a key without '.*', which gives a row more than one key", setting)));
      return;
    }
    const std::size_t parameters = highest_parameter(query);
    if (parameters == columns.size()) return;
    std::string list;
    for (const std::string_view column : columns) list += (list.empty() ? "" : ", ") + std::string(column);
    map.take(fail_at(place,
                     fmt::format("'query': expected {} parameter{}, got {}: an array of texts for each column of the key '{}' ({})",
                                 columns.size(), columns.size() == 1 ? "" : "s", parameters,
                                 printable(info_.key_templates[0]), printable(list)),
                     "write where id = any($1), or for two columns: where (a, b) in (select * from unnest($1::int[], $2::text[]))"),
             place);
  }

  // Of $1, $2 ... outside quotes; 0: none.
  static std::size_t highest_parameter(std::string_view query) {
    std::size_t highest = 0;
    char quote = 0;
    for (std::size_t i = 0; i < query.size(); ++i) {
      const char c = query[i];
      if (quote != 0) {
        if (c == quote) quote = 0;
      } else if (c == '\'' || c == '"') {
        quote = c;
      } else if (c == '$') {
        std::size_t number = 0;
        while (i + 1 < query.size() && query[i + 1] >= '0' && query[i + 1] <= '9' && number < 1000) {
          number = number * 10 + static_cast<std::size_t>(query[++i] - '0');
        }
        highest = std::max(highest, number);
      }
    }
    return highest;
  }

  void read_version(const YamlNode& version) {
    if (version.kind == YamlNode::Kind::kText && version.text == "snapshot") return;
    if (version.kind == YamlNode::Kind::kMap) {
      YamlMap column(version, "'version'");
      if (column.require("column") != nullptr) column.read("column", info_.version_column);
      map_.take(column.finish(), version);
      return;
    }
    refuse(version.place, fmt::format("'version': expected 'snapshot' or {{column: name}}, got {}",
                                      describe(version)));
  }

  // What only shows when two settings are seen together.
  void check_together() {
    if (!map_.has("keys") && !map_.has("tags") && !map_.has("purge") && !map_.has("bump") &&
        !map_.has("surrogate_keys") && !map_.has("semantic")) {
      map_.take_last(
          fail_at(info_.place,
                  "expected at least one of 'keys', 'tags', 'bump', 'purge', 'surrogate_keys' and 'semantic' in " + what(map_.node())));
    }
    if (info_.settle.count() == 0 && info_.fill == FillMode::kPlain) {
      refuse(map_.place_of("settle"),
             "'settle': expected more than 0ms with 'fill: plain', got '0ms'",
             "plain fills are made safe by the second delete; only 'fill: checked' needs none");
    }
    for (const std::string_view setting : {"when_changed", "ignore_changed"}) {
      if (map_.has(setting) && !info_.is_on(Operation::kUpdate)) {
        refuse(map_.place_of(setting), fmt::format("'{}' has no effect: 'on' does not name 'update'", setting));
      }
    }
    if (map_.has("when_changed") && map_.has("ignore_changed")) {
      refuse(map_.place_of("ignore_changed"), "'when_changed' and 'ignore_changed' exclude one another",
             "name the columns that matter, or those that do not");
    }
    check_joins();
    check_reader_settings();
    check_semantic();
    check_immutable();
    check_never_updated();
  }

  void check_semantic() {
    if (!map_.has("semantic")) return;
    if (info_.fill == FillMode::kChecked) {
      refuse(map_.place_of("semantic"), "'semantic' needs 'fill: plain', got 'fill: checked'",
             "an element of an index carries no version: its second delete, after 'settle', makes it safe. Give it a rule of its own");
    }
    if (map_.has("via")) {
      refuse(map_.place_of("semantic"), "'semantic' and 'via' exclude one another",
             "an order reads the row's own columns: give it a rule of its own");
    }
    if (!info_.announce.empty()) {
      refuse(map_.place_of("semantic"), "'semantic' and 'announce' exclude one another",
             "elements of an index are not announced: give them a rule of their own");
    }
  }

  void check_joins() {
    for (const std::string_view setting : {"fan_out", "on_overflow"}) {
      if (map_.has(setting) && !map_.has("via")) refuse(map_.place_of(setting), fmt::format("'{}' has no effect without 'via'", setting));
    }
    // Templates that are wrong read nothing; and orders read no join, of which check_semantic() has the word.
    if (!map_.ok() || map_.has("semantic")) return;
    for (const Join& join : joins_) {
      if (is_used(rule_, info_, join)) continue;
      refuse(join.step.place, fmt::format("the join '{}' has no effect: no template reads it", printable(join.step.alias)),
             fmt::format("write {{{}.id}} in a key or tag", join.step.alias));
    }
    if (info_.lookups.empty()) return;
    if (!info_.version_column.empty()) {
      refuse(map_.place_of("version"), "'version: {column: ...}' and 'via' exclude one another",
             "a row's version says nothing of the joined tables: give the keys of the row a rule of their own");
    }
  }

  // Whatever else matters of the row: another joined row is another key.
  void follow_matches() {
    for (const LookupInfo& lookup : info_.lookups) {
      for (const JoinStep::Match& match : lookup.steps[0].match) {
        const auto names_it = [&](const std::vector<std::string>& columns) {
          return std::find(columns.begin(), columns.end(), match.from) != columns.end();
        };
        if (!rule_.when_changed.empty() && !names_it(rule_.when_changed)) rule_.when_changed.push_back(match.from);
        if (!names_it(rule_.ignore_changed)) continue;
        refuse(rule_.ignore_changed_place,
               fmt::format("'ignore_changed' names '{}', which the join '{}' begins with", printable(match.from),
                           printable(lookup.steps[0].alias)),
               "an update of it leads to another row of the joined table");
      }
    }
  }

  // These rest on markers that only a checked fill writes and only evictd_get reads.
  void check_reader_settings() {
    const auto needs_checked = [&](std::string_view setting, std::string_view text, std::string hint) {
      if (info_.fill == FillMode::kChecked) return;
      refuse(map_.place_of(setting), fmt::format("'{}' needs 'fill: checked', got 'fill: plain'", text), std::move(hint));
    };
    if (info_.mode == RuleMode::kStale) {
      needs_checked("mode", "mode: stale",
                    "a plain GET cannot tell a stale value from a fresh one: readers have to use evictd_get");
    } else if (map_.has("grace")) {
      refuse(map_.place_of("grace"), "'grace' has no effect without 'mode: stale'");
    }
    if (!info_.version_column.empty()) {
      needs_checked("version", "version: {column: ...}", "plain fills carry no version that could be compared");
      if (!map_.has("keys")) {
        refuse(map_.place_of("version"), "'version' has no effect without 'keys'",
               "a row's version says nothing of the other rows under a tag or a pattern");
      }
    }
    if (map_.has("refresh")) {
      needs_checked("refresh", "refresh", "evictd fills as a checked reader does, and only evictd_fill checks");
      if (!map_.has("keys")) refuse(map_.place_of("refresh"), "'refresh' has no effect without 'keys'");
      if (!info_.refresh.query.empty() && !info_.version_column.empty()) {
        refuse(map_.place_of("refresh"), "'refresh: {query: ...}' and 'version: {column: ...}' exclude one another",
               "evictd proves its fills by a snapshot of PostgreSQL; write 'version: snapshot', or refresh: {stream: ...}");
      }
    }
    if (info_.tags_mode == TagsMode::kLazy) {
      needs_checked("tags_mode", "tags_mode: lazy", "only evictd_fill and evictd_get look at a lazy tag's marker");
      if (!map_.has("tags")) refuse(map_.place_of("tags_mode"), "'tags_mode' has no effect without 'tags'");
      if (!info_.version_column.empty()) {
        refuse(map_.place_of("tags_mode"), "'tags_mode: lazy' and 'version: {column: ...}' exclude one another",
               "a tag depends on many rows: no row's version proves that a value has seen its invalidation. Give the "
               "tags a rule of their own, with 'version: snapshot'");
      }
    }
  }

  // A promise about a column that the rule does not use is a slip of the pen.
  void check_immutable() {
    std::vector<std::string_view> used;
    for (const CompiledTemplate& entry : rule_.templates) {
      if (entry.lookup != kOwnRow) continue;
      for (const Placeholder& placeholder : entry.compiled.placeholders)
        used.push_back(placeholder.column);
    }
    for (const LookupInfo& lookup : info_.lookups) {
      for (const JoinStep::Match& match : lookup.steps[0].match) used.push_back(match.from);
    }
    for (const Condition& condition : rule_.where) used.push_back(condition.column);
    used.insert(used.end(), rule_.when_changed.begin(), rule_.when_changed.end());
    std::sort(used.begin(), used.end());
    used.erase(std::unique(used.begin(), used.end()), used.end());
    for (const std::string& column : rule_.immutable) {
      if (std::binary_search(used.begin(), used.end(), std::string_view(column)) || used.empty())
        continue;
      refuse(map_.find("immutable")->place,
             fmt::format("'immutable': this rule does not use the column '{}'", printable(column)),
             did_you_mean(column, used, "columns"));
    }
  }

  // Conditions that a promise makes false for ever: the rule would pass over every update, without a word.
  void check_never_updated() {
    const auto is_immutable = [this](const std::string& column) { return rule_.is_immutable(column); };
    if (!rule_.when_changed.empty() && std::all_of(rule_.when_changed.begin(), rule_.when_changed.end(), is_immutable)) {
      refuse(map_.find("immutable")->place,
             "'immutable' names every column of 'when_changed': the rule would act on no update ever",
             "leave 'update' out of 'on' if that is meant; otherwise take the column out of 'immutable'");
    }
    for (const Condition& condition : rule_.where) {
      if (!condition.crosses || !is_immutable(condition.column)) continue;
      refuse(condition.place,
             fmt::format("'crosses' of '{}', which is immutable: the rule would act on no update ever", printable(condition.column)),
             "take the column out of 'immutable'");
    }
  }

  YamlMap map_;
  RuleInfo& info_;
  CompiledRule& rule_;
  std::vector<Join> joins_;
  std::size_t templates_ = 0;
};

// Names the rules that have no name of their own, and tells apart those that would share one.
Result<void> name_rules(std::vector<RuleInfo>& infos) {
  std::unordered_set<std::string> taken;
  for (const RuleInfo& info : infos) {
    if (info.name.empty() || taken.insert(info.name).second) continue;
    return fail_at(info.place, fmt::format("another rule has the name '{}'", info.name),
                   "names of rules are labels of metrics: give each its own");
  }
  for (RuleInfo& info : infos) {
    if (!info.name.empty()) continue;
    const std::string table = info.qualified_table();
    info.name = table;
    for (int number = 2; !taken.insert(info.name).second; ++number)
      info.name = fmt::format("{}#{}", table, number);
  }
  return {};
}

bool share_a_cache(const RuleInfo& a, const RuleInfo& b) {
  const auto has = [&](const std::string& name) { return std::find(b.caches.begin(), b.caches.end(), name) != b.caches.end(); };
  return a.caches.empty() || b.caches.empty() || std::any_of(a.caches.begin(), a.caches.end(), has);
}

// "page:{id}" of one table and "page:{product_id}" of another name the same values, and their readers fill in one way. A change that
// leaves no tombstone because its rule says 'plain' would let a checked reader's late fill through, for good; and values listed
// under a tag of one mode are not found by the other.
Result<void> refuse_mixed_fills(const RuleSet::Compiled& compiled) {
  struct Named {
    const RuleInfo* info;
    const CompiledTemplate* entry;
  };
  std::map<std::pair<InvalidationKind, std::vector<std::string>>, std::vector<Named>> by_text;
  for (std::size_t i = 0; i < compiled.infos.size(); ++i) {
    for (const CompiledTemplate& entry : compiled.rules[i].templates) {
      if (entry.kind != InvalidationKind::kKey && entry.kind != InvalidationKind::kTag) continue;
      const RuleInfo& info = compiled.infos[i];
      const bool is_tag = entry.kind == InvalidationKind::kTag;
      std::vector<Named>& same = by_text[{entry.kind, entry.compiled.literals}];
      for (const Named& other : same) {
        if (!share_a_cache(info, *other.info)) continue;
        const auto differs = [&](const char* setting, const char* mine, const char* its) {
          return fail_at(entry.place,
                         fmt::format("the {} '{}' is that of '{}' ({}) as well, and that rule has '{}: {}', this one '{}: {}': readers fill a value in one way",
                                     is_tag ? "tag" : "key", entry.compiled.source, other.entry->compiled.source, other.entry->place.to_string(), setting, its,
                                     setting, mine),
                         fmt::format("give both rules the same '{}', or the {} another name", setting, is_tag ? "tags" : "keys"));
        };
        if (info.fill != other.info->fill) {
          const auto name = [](FillMode fill) { return fill == FillMode::kChecked ? "checked" : "plain"; };
          return differs("fill", name(info.fill), name(other.info->fill));
        }
        if (is_tag && info.tags_mode != other.info->tags_mode) {
          const auto name = [](TagsMode mode) { return mode == TagsMode::kLazy ? "lazy" : "members"; };
          return differs("tags_mode", name(info.tags_mode), name(other.info->tags_mode));
        }
      }
      same.push_back({&info, &entry});
    }
  }
  return {};
}

// "user:{id}" and "{{user:{id}}}": two keys, one marker. What a checked fill or an invalidation leaves there for one of them would be
// taken for the other's, whose old value would stay (G3).
Result<void> refuse_shared_markers(const RuleSet::Compiled& compiled) {
  struct Key {
    const RuleInfo* info;
    const CompiledTemplate* entry;
  };
  std::vector<Key> keys;
  for (std::size_t i = 0; i < compiled.infos.size(); ++i) {
    for (const CompiledTemplate& entry : compiled.rules[i].templates) {
      if (entry.kind == InvalidationKind::kKey) keys.push_back({&compiled.infos[i], &entry});
    }
  }
  for (const Key& tagged : keys) {
    const std::optional<Template> inside = inside_hash_tag(tagged.entry->compiled);
    if (!inside) continue;
    for (const Key& other : keys) {
      const bool is_checked = tagged.info->fill == FillMode::kChecked || other.info->fill == FillMode::kChecked;
      // Others meet by odd values alone, of which `check` warns.
      if (!is_checked || inside->literals != other.entry->compiled.literals || !share_a_cache(*tagged.info, *other.info)) continue;
      return fail_at(tagged.entry->place,
                     fmt::format("the key '{}' is nothing but a hash tag, and has the same marker as '{}' ({}): under 'fill: checked' one would be "
                                 "taken for the other",
                                 tagged.entry->compiled.source, other.entry->compiled.source, other.entry->place.to_string()),
                     fmt::format("give one of them another name, for example '{}:v'", tagged.entry->compiled.source));
    }
  }
  return {};
}

// A rule whose `table` is a list stands for one rule of each.
Result<std::vector<YamlNode>> one_per_table(const YamlNode& item) {
  std::vector<YamlNode> singles;
  const auto table = std::find_if(item.entries.begin(), item.entries.end(), [](const YamlEntry& entry) {
    return entry.name == "table" && entry.value.kind == YamlNode::Kind::kList;
  });
  if (item.kind != YamlNode::Kind::kMap || table == item.entries.end()) {
    singles.push_back(item);
    return singles;
  }
  if (table->value.items.empty()) {
    return fail_at(table->value.place, "'table': expected at least one table, got an empty list");
  }
  std::vector<TableName> seen;
  const auto number = static_cast<std::size_t>(table - item.entries.begin());
  for (const YamlNode& one : table->value.items) {
    const Result<TableName> name = parse_table(one);
    if (!name) return tl::unexpected(name.error());
    if (std::find(seen.begin(), seen.end(), *name) != seen.end()) {
      return fail_at(one.place, fmt::format("'table': '{}' is given twice", printable(name->qualified())));
    }
    seen.push_back(*name);
    singles.push_back(item);
    singles.back().entries[number].value = one;
  }
  return singles;
}

Result<void> parse_rule_list(const YamlNode& list, const Defaults& defaults,
                             RuleSet::Compiled& compiled) {
  if (list.kind != YamlNode::Kind::kList) {
    return fail_at(list.place, fmt::format("expected a list of rules, got {}", describe(list)),
                   "begin each rule with '- table: ...'");
  }
  if (list.items.empty())
    return fail_at(list.place, "expected at least one rule, got an empty list");
  if (list.items.size() > kRulesMax) {
    return fail_at(list.place,
                   fmt::format("expected at most {} rules, got {}", kRulesMax, list.items.size()));
  }
  std::vector<std::pair<std::size_t, std::vector<Join>>> joined;
  for (const YamlNode& item : list.items) {
    Result<std::vector<YamlNode>> singles = one_per_table(item);
    if (!singles) return tl::unexpected(singles.error());
    std::string first_name;
    for (std::size_t i = 0; i < singles->size(); ++i) {
      if (compiled.infos.size() == kRulesMax) {
        return fail_at(item.place, fmt::format("expected at most {} rules, one for each of its tables, got more", kRulesMax));
      }
      RuleInfo& info = compiled.infos.emplace_back();
      CompiledRule& rule = compiled.rules.emplace_back();
      RuleParser parser((*singles)[i], defaults, info, rule);
      if (Result<void> parsed = parser.parse(); !parsed) return parsed;
      if (!info.lookups.empty()) joined.emplace_back(compiled.infos.size() - 1, parser.joins());
      if (i == 0) first_name = info.name;
      if (i > 0 && !first_name.empty()) info.name = fmt::format("{}#{}", first_name, i + 1);
      info.digest = rule_digest(info, rule, DigestOf::kKeys);
      info.surrogate_digest = rule_digest(info, rule, DigestOf::kSurrogates);
    }
  }
  if (Result<void> named = name_rules(compiled.infos); !named) return named;
  if (Result<void> told_apart = refuse_shared_markers(compiled); !told_apart) return told_apart;
  if (Result<void> one_way = refuse_mixed_fills(compiled); !one_way) return one_way;
  for (const auto& [number, joins] : joined) {
    const RuleInfo info = compiled.infos[number];  // copies: both lists grow
    const CompiledRule rule = compiled.rules[number];
    add_implied_rules(info, rule, joins, compiled);
  }
  return {};
}

}  // namespace

Result<void> parse_rules(const YamlNode& root, RuleSet::Compiled& compiled) {
  if (root.kind != YamlNode::Kind::kMap) return parse_rule_list(root, Defaults{}, compiled);
  YamlMap map(root, "the rules file");
  if (!map.has("rules") && map.has("table")) {
    return fail_at(map.place_of("table"), "expected a list of rules, got the settings of one", "begin each rule with '- ', as in '- table: public.products'");
  }
  const YamlNode* defaults_node = map.find("defaults");
  const YamlNode* list = map.require("rules");
  if (Result<void> done = map.finish(); !done) return done;
  const Result<Defaults> defaults = parse_defaults(defaults_node);
  if (!defaults) return tl::unexpected(defaults.error());
  return parse_rule_list(*list, *defaults, compiled);
}

}  // namespace evictd
