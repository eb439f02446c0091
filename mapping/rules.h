// Rules: the compiled form of rules.yaml (design: "Mapping: rules"). Immutable after parsing; safe
// to read from any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mapping/change.h"
#include "mapping/error.h"
#include "mapping/place.h"
#include "mapping/semantic.h"

namespace evictd {

enum class FillMode : std::uint8_t { kPlain, kChecked };
enum class OnMissing : std::uint8_t { kPurge, kStop, kIgnore };
enum class InvalidationKind : std::uint8_t { kKey, kTag, kPurge, kBump, kSurrogate, kSemantic };
enum class RuleMode : std::uint8_t { kDelete, kStale };
enum class TagsMode : std::uint8_t { kMembers, kLazy };
enum class OnOverflow : std::uint8_t { kPurge, kStop };
// kJsonOrText: as JSON where both are, else as texts.
enum class AuditCompare : std::uint8_t { kText, kJson, kJsonOrText, kPaths };

// Limits (G8) of one file, one rule, one key.
inline constexpr std::size_t kRulesMax = 1000;
inline constexpr std::size_t kTemplatesPerRuleMax =
    64;  // keys, tags, purge patterns, bumps, surrogate keys and semantic orders together
inline constexpr std::size_t kConditionTextsMax = 1000;  // of one column in `where`
inline constexpr std::size_t kKeyBytesMax = 64 * 1024;   // a rendered key or tag; longer ones are nobody's
inline constexpr std::uint64_t kCollapseAfterMax = 1'000'000'000;
inline constexpr std::chrono::milliseconds kSettleMax{3'600'000};
inline constexpr std::chrono::milliseconds kPurgeEveryMax{3'600'000};
inline constexpr std::chrono::milliseconds kGraceMax{86'400'000};
inline constexpr std::chrono::milliseconds kGraceDefault{30'000};
inline constexpr std::size_t kChannelBytesMax = 256;
inline constexpr std::size_t kAuditQueryBytesMax = 16 * 1024;
inline constexpr std::size_t kAuditPathsMax = 64;
inline constexpr std::size_t kRefreshQueryBytesMax = 16 * 1024;
inline constexpr std::chrono::milliseconds kRefreshTtlMax{8'760ULL * 3'600'000};
inline constexpr std::uint64_t kRefreshPerSecondMax = 100'000;
inline constexpr std::uint64_t kRefreshStreamMax = 100'000'000;
// Streams of refreshes are the only names below kReservedPrefix that a rule may give.
inline constexpr std::string_view kRefreshPrefix = "evictd:refresh";
inline constexpr std::size_t kJoinsMax = 16;             // of one rule
inline constexpr std::size_t kMatchesMax = 8;            // columns of one join
inline constexpr std::uint64_t kFanOutMax = 100'000;
inline constexpr std::uint64_t kFanOutDefault = 10'000;

struct YamlNode;  // yaml.h

// "key", "tag", "purge", "bump", "surrogate_key", "semantic".
std::string_view invalidation_kind_name(InvalidationKind kind);

// A Redis glob pattern that covers everything one template can render: each placeholder is '*',
// literal glob characters are escaped. For a tag template it matches the names of the tag SETS
// ("tag:category:*"). What matches the pattern of a `bump` template is never deleted, but raised.
struct Pattern {
  std::string glob;
  bool is_tag = false;
  bool is_lazy = false;  // a tag without a set: what matches are the markers of such tags
  bool is_bump = false;
  bool is_surrogate = false;  // names responses at an edge; the glob is for people, for no edge finds by pattern
  std::string exact = {};     // of a surrogate key without placeholders: itself, the only one there is
  // All elements of a semantic index, by the rule's entry of that number; the glob is the index's own name.
  bool is_semantic = false;
  std::uint32_t entry = 0;
};

// Keys that begin with it are evictd's own: no rule may name them, nor a value lead there.
inline constexpr std::string_view kReservedPrefix = "evictd:";

// The Redis key of a tag's member set is kTagPrefix + the rendered tag.
inline constexpr std::string_view kTagPrefix = "tag:";

// How a cached value is compared with the database (`audit:`, docs/audit.md).
struct AuditPath {
  std::vector<std::string> path;  // into the cached value's JSON
  std::string column;             // of the query's answer
};
struct AuditInfo {
  // Parameters: for each column of the key's template an array of its texts, in the order of their first appearance
  // ($1, $2 ...). Answers with those columns first, then the value. Empty: values are not compared.
  std::string query;
  bool is_of_refresh = false;  // it is that of `refresh`, where the rule has no other: then columns may stand behind the value
  AuditCompare compare = AuditCompare::kText;
  std::vector<AuditPath> paths;  // kPaths
  Place place;
};

// What becomes of a key after a delete that hit (`refresh:`, docs/refresh.md): evictd fills it anew, or says so in a stream.
struct RefreshInfo {
  // As AuditInfo::query; behind the value there may be columns named 'tags' and 'lazy_tags'. Empty: see `stream`.
  std::string query;
  std::chrono::milliseconds ttl{0};
  std::uint64_t jitter = 10;       // percent
  std::uint64_t per_second = 500;  // keys that the database is asked for
  std::string stream;              // each key is added here; empty: see `query`
  std::uint64_t maxlen = 100'000;
  std::string rule;  // of what `via:` implies: the name of the rule as written. Empty: this is the one
  Place place;

  bool is_set() const { return !query.empty() || !stream.empty(); }
};

// One step of `via:`: the rows of `table` whose columns have the values of columns of the table before it.
struct JoinStep {
  struct Match {
    std::string column;  // of `table`
    std::string from;    // of the table before
  };
  std::string alias;
  TableName table;
  std::vector<Match> match;
  Place place;
};

// What is looked up in the database when a row of the rule's table changes: over `steps` from that row to those of one joined
// table, which templates are rendered from. One for each joined table that templates read.
struct LookupInfo {
  std::vector<JoinStep> steps;
  std::vector<std::string> columns;      // of the last step's table, each once
  std::vector<std::uint32_t> templates;  // rendered from them; indices of RuleInfo::patterns
  Place place;
};

// What the daemon needs to know of one rule. The index of a rule in its RuleSet is its identity
// within one load of the file; `name` is its identity for people and metrics across loads.
struct RuleInfo {
  std::string name;    // `name:` or the table; made unique with "#2", "#3"
  std::string schema;  // "public" when the rule's table had no schema
  std::string table;
  Place place;
  FillMode fill = FillMode::kPlain;
  std::chrono::milliseconds settle{1000};  // 0 only with fill: checked
  OnMissing on_missing = OnMissing::kPurge;
  std::uint64_t collapse_after = 10'000'000;  // keys of this rule in one transaction
  std::chrono::milliseconds purge_every{1000};  // between the walks of one pattern that changes ask for
  std::vector<std::string> ignore_changed;    // columns whose change does not matter: all others have to be read
  std::vector<std::string> key_templates;     // as written, for messages
  std::vector<std::string> tag_templates;
  std::vector<std::string> purge_patterns;
  // What the rule may ever touch, one per key, tag, bump and surrogate key template, semantic entry and purge pattern, in that order.
  std::vector<Pattern> patterns;
  std::uint8_t operations = 0;  // one bit per Operation of `on:`
  std::optional<Place> where_place;  // of its conditions; none: it has none

  RuleMode mode = RuleMode::kDelete;
  std::chrono::milliseconds grace{0};  // mode: stale: how long a value may be served after its invalidation
  std::string version_column;          // empty: version: snapshot
  Place version_place;
  TagsMode tags_mode = TagsMode::kMembers;
  std::vector<std::string> bump_templates;
  std::vector<std::string> surrogate_templates;  // names of responses at an edge (a CDN)
  std::vector<SemanticInfo> semantic;
  std::string announce;  // the channel; empty: none
  // The caches it acts on, by the names of the configuration, which verifies them; empty: on every one.
  std::vector<std::string> caches;
  std::vector<Place> cache_places;  // one per name
  AuditInfo audit;
  RefreshInfo refresh;

  // Templates that read a joined table (docs/rules.md, "Keys of joined tables"). Empty: none.
  std::vector<LookupInfo> lookups;
  std::uint64_t fan_out = kFanOutDefault;  // rows that one changed row may lead to
  OnOverflow on_overflow = OnOverflow::kPurge;
  // Set for what a rule's `via:` implies of a joined table: its own changes touch the same keys. "order", the join's name.
  std::string implied_via;
  std::string implied_by;  // the name of the rule whose `via:` it is

  // Of everything that decides what the rule matches and how it acts on a cache (rule_digest.h): the same on every
  // machine and in every build. `digest` of all but the surrogate keys, 0 where there is nothing else;
  // `surrogate_digest` of these, 0 where there are none.
  std::uint64_t digest = 0;
  std::uint64_t surrogate_digest = 0;

  bool is_on(Operation operation) const {
    return (operations >> static_cast<unsigned>(operation) & 1U) != 0;
  }
  std::string qualified_table() const { return schema + "." + table; }
};

class RuleSet {
 public:
  // Reads the text of a rules file, or of the list under `rules:` of the configuration. `file` is
  // used in messages only. Every error carries "file:line:column".
  static Result<RuleSet> parse(std::string_view text, const std::string& file);
  // The same for a tree that parse_yaml made: the rules that stand inside the configuration.
  static Result<RuleSet> parse(const YamlNode& node);

  RuleSet(RuleSet&&) noexcept;
  RuleSet& operator=(RuleSet&&) noexcept;
  ~RuleSet();

  const std::vector<RuleInfo>& rules() const;

  // Every distinct table named by a rule, "schema.table", in the order of the file.
  std::vector<std::string> tables() const;

  // What the rules of one table, "schema.table", do together; their order and names do not count. 0: no rule names it.
  std::uint64_t table_digest(std::string_view table) const;

  struct Compiled;  // rules_compiled.h, for the inside of mapping/
  const Compiled& compiled() const { return *compiled_; }

 private:
  explicit RuleSet(std::unique_ptr<Compiled> compiled);
  std::unique_ptr<Compiled> compiled_;
};

// A column that some template, condition or when_changed of a rule reads, and what that means for
// the source. Used by `check` and `run` against the live catalogue.
struct ColumnNeed {
  std::uint32_t rule = 0;
  std::string column;
  Place place;        // of the template that names it
  std::string where;  // "key 'product:{id}'", "when_changed", "where": for messages
  // Of `where` and `when_changed`: a value that is not sent makes the rule delete more than it
  // must, but nothing is missed. Of a template: the key cannot be built, and `on_missing` decides.
  bool is_condition = false;
  bool on_insert = false;  // the new value is needed for an insert
  bool on_update_new = false;
  bool on_update_old = false;  // false for immutable columns
  bool on_delete_old = false;
  bool is_awaited = false;  // `when_changed` or `crosses` waits for updates of it: nobody can promise that there are none
};
// (Of `version`: a value that is not sent only costs: no fill of that key is accepted while its tombstone lives.)
std::vector<ColumnNeed> column_needs(const RuleSet& rules);

}  // namespace evictd
