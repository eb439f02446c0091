// A sink: one place where values are cached (Redis). It takes orders and answers them; it knows nothing of transactions:
// what to delete, when to settle, what is on record and what may be acknowledged is decided in flow/.
//
// Contract, held by tests/contract for the Redis sink and for the fake:
//  - All calls come from the one loop thread; handler calls are made only from inside step().
//  - submit() takes an order if there is room (has_room()) for its urgency; prompt orders of one connection are sent in
//    the order of their submission; each ends exactly once, in on_done() or on_lost().
//  - on_done() means: every reply was read and was a success. Anything else (a lost connection, a
//    timeout, an error reply that may pass) ends in on_lost() for every order under way, the
//    connection is closed and a new one made with capped backoff. A lost order may or may not have
//    been applied; submitting it again is safe (G2).
//  - Nothing blocks; buffers are bounded.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/interface/record.h"
#include "daemon/interface/version.h"
#include "daemon/base/waiting.h"
#include "mapping/error.h"
#include "mapping/rules.h"

namespace evictd {

enum class Act : std::uint8_t {
  // `fill: checked`: the table of DESIGN.md ("The protocol") for each key: delete unless proven fresh, leave a tombstone.
  // `fill: plain`: delete. Nothing is left behind: what was done before is the lane's to know, not the cache's.
  kInvalidate,
  // The second delete of `fill: plain`, and the second walk of a purge: as kInvalidate, and later.
  kSettle,
  // `fill: checked`: give the tombstones of these xids their full lifetime again; where one is gone,
  // as kInvalidate. Of a pattern too: what has the tombstones that its walk left is not walked.
  kRenew,
};

// How much longer than `tombstone_ttl` a tombstone lives, so that one whose transaction becomes visible
// within this time after the delete need not be renewed.
inline constexpr std::chrono::milliseconds kTombstoneMargin{1000};

// What an order is about.
enum class Target : std::uint8_t {
  kKeys,      // each text is a cache key
  kTags,      // each text is a tag: its set is walked, each member treated as a key, and left with a tombstone
  kCounters,  // each text is a namespace counter: raised by one for each xid it does not remember
  kSurrogates,  // each text is a surrogate key: every response an edge knows by it
  kSemantic,  // each text is an order to an index of vectors (mapping/semantic.h)
  kPatterns,  // no texts: every key that matches one of the patterns, as the pattern's kind asks; one walk for all
};

// Whose place an order takes: a walk over everything never takes that of a delete (has_room()).
enum class Urgency : std::uint8_t { kPrompt, kBulk };

// One text with the transactions that touched it.
struct Item {
  std::uint32_t text_end = 0;  // in Texts::texts, begins where the previous item ends
  std::uint32_t xids_end = 0;  // in Texts::xids, likewise
};

// Distinct texts, each with the transactions that touched it. Compact: growing arrays, no allocation per item.
struct Texts {
  std::string texts;
  std::vector<Xid> xids;
  std::vector<Item> items;
  // Keys of a rule with a version column: per item, the row version that a fill has to reach, in place of its
  // xids; empty where no version is known (then the xids stand, which no row version ever proves). Otherwise no
  // element at all.
  std::vector<std::string> row_versions;

  std::size_t size() const { return items.size(); }
  std::size_t bytes() const {
    return texts.size() + xids.size() * sizeof(Xid) + items.size() * sizeof(Item) +
           row_versions.size() * sizeof(std::string);
  }
  std::string_view text(std::size_t index) const {
    const std::uint32_t begin = index == 0 ? 0 : items[index - 1].text_end;
    return std::string_view(texts).substr(begin, items[index].text_end - begin);
  }
};

// A pattern to be walked, with the rule that says how what matches is treated.
struct PatternRef {
  const RuleInfo* rule = nullptr;
  const Pattern* pattern = nullptr;
};

// One order to the sink: what is to be done, not how. How long values stay (`mode: stale`), who is told (`announce`),
// whether a filled marker may prove freshness (`fill`): the rule says it to whoever can use it.
struct Order {
  Act act = Act::kInvalidate;
  Target target = Target::kKeys;
  const RuleInfo* rule = nullptr;  // of all texts; null for kPatterns
  const Texts* texts = nullptr;    // null for kPatterns
  // kPatterns: walked together. `xids`: the transactions that ask for it, sorted; none when unconditional.
  std::span<const PatternRef> patterns = {};
  std::span<const Xid> xids = {};
  // kInvalidate: late enough to count as the settle as well. Where a tombstone remembers the xids, but not that they
  // were settled, it deletes again, as kSettle does.
  bool is_settle = false;
  // kPatterns: delete whatever is found and require of fills a snapshot whose xmin is beyond `floor` (gaps, an
  // operator's purge: no xid to compare).
  bool is_unconditional = false;
  Xid floor{};
  // kPatterns: only in these parts of the cache (Sink::lost_parts()); none: everywhere.
  std::span<const std::string> parts = {};

  Urgency urgency() const { return target == Target::kPatterns ? Urgency::kBulk : Urgency::kPrompt; }
};

// What became of the keys of an order. Sums to the number of keys looked at (for tags and patterns: the members found).
// A lazy tag counts as deleted when it had a marker, a counter when it was raised, a value that stays with its grace
// as well.
struct Counts {
  std::uint64_t deleted = 0;   // was there and is gone
  std::uint64_t absent = 0;    // was not there
  std::uint64_t kept = 0;      // a checked fill proved to be fresh
  std::uint64_t replayed = 0;  // this transaction is known to have been applied to this key before

  Counts& operator+=(const Counts& more) {
    deleted += more.deleted;
    absent += more.absent;
    kept += more.kept;
    replayed += more.replayed;
    return *this;
  }
};

struct Outcome : Counts {
  // Of kPatterns orders: one for each pattern.
  std::vector<Counts> by_pattern = {};
  // Of kKeys orders of a rule with `refresh`: the items that count as deleted.
  std::vector<std::uint32_t> hits = {};
};

// What this sink can do. A rule that asks for more does not act on it, which the configuration refuses.
struct SinkTraits {
  bool has_patterns = true;  // can find what matches a pattern
  bool has_counters = true;  // can raise a number atomically
  // It is an edge: takes surrogate keys, and patterns of these, and nothing else; every other sink takes all but these.
  bool is_edge = false;
  // Which service it is, where the record does not lie beside the values that it speaks of: behind the same name there may be
  // another one, which nobody has watched. The same number in every build. 0: the record lies there.
  std::uint64_t service = 0;
};

// `fill: plain`, and neither counted nor announced: plain deletes are all that the rule asks for.
inline bool asks_for_deletes_only(const RuleInfo& rule) {
  return rule.fill == FillMode::kPlain && rule.announce.empty() && rule.bump_templates.empty();
}

// What rules keep in a cache beside the values, and what must not be evicted before these.
struct KeptBesideValues {
  bool has_tag_sets = false;     // members of tags
  bool has_counters = false;     // of 'bump'
  bool has_stale_marks = false;  // mode: stale
  bool has_tombstones = false;   // fill: checked

  bool operator==(const KeptBesideValues&) const = default;
};

inline KeptBesideValues kept_by(const RuleInfo& rule) {
  return {.has_tag_sets = !rule.tag_templates.empty() && rule.tags_mode == TagsMode::kMembers,
          .has_counters = !rule.bump_templates.empty(),
          .has_stale_marks = rule.mode == RuleMode::kStale,
          .has_tombstones = rule.fill == FillMode::kChecked};
}
inline KeptBesideValues operator|(const KeptBesideValues& a, const KeptBesideValues& b) {
  return {a.has_tag_sets || b.has_tag_sets, a.has_counters || b.has_counters, a.has_stale_marks || b.has_stale_marks, a.has_tombstones || b.has_tombstones};
}

// What every order needs to know of the moment; set by the lane whenever it changes.
struct SinkContext {
  Epoch epoch;
  // By Redis's clock: a filled marker older than this never keeps a value.
  std::chrono::milliseconds trust_since{0};
  // A recent snapshot of this epoch. A tombstone with too many xids drops those that it sees, and asks of fills
  // what it has seen instead.
  std::optional<Snapshot> snapshot = {};
  // Channels of announcements: whenever the sink is connected (again), their subscribers are told to drop all
  // they have, for they may have missed something.
  std::vector<std::string> channels = {};
  // Every rule that acts here asks for deletes only: what else the sink would make ready at its connects need not work.
  bool is_deletes_only = false;
  // A rule that asks for deletes only has tags with sets: a page of one is deleted and taken off the set together.
  bool has_plain_tag_sets = false;
  // Records of this cache follow one another: one that comes before the last that was written or read here tells of data that
  // was exchanged.
  bool is_record_ours_alone = false;
  // Others write it, too (a consumer group): one that is not there any more tells of data that was flushed.
  bool is_record_shared = false;
  // A setting of some rule that acts here, which a cache of several servers cannot do: "semantic" or "refresh"; empty: none.
  std::string needs_one_server = {};
  // By the rules that act here.
  KeptBesideValues kept = {};
};

// Redis is there and may be written to.
struct SinkConnected {
  std::optional<Record> record;
  std::chrono::milliseconds time{0};  // Redis TIME
  // Changes whenever the data may not be what we last saw: another process or another server (run_id).
  std::string instance;
};

using Ticket = std::uint64_t;  // chosen by the lane, unique while the order is under way

class SinkHandler {
 public:
  virtual ~SinkHandler() = default;
  virtual void on_sink_connected(const SinkConnected& connected) = 0;
  // `error_class` is the label of evictd_redis_errors_total.
  virtual void on_sink_disconnected(const Error& error, std::string_view error_class) = 0;
  // An order or the record was refused, in words of the cache's: what comes on_sink_disconnected() for, or a part of the cache is away
  // for. Before on_lost() of what was under way. Connected again, it may well say the same again.
  virtual void on_sink_refused(const Error& /*error*/) {}
  // Cannot go on by itself (wrong password, ACL): kFatal or kUsage.
  virtual void on_sink_failed(const Error& error) = 0;
  // Goes on, but not with all of it: a part of the cache is away, and what is asked of that waits.
  virtual void on_sink_trouble(const Error& /*error*/, std::string_view /*error_class*/) {}
  // Too few replicas have confirmed what is on record, for longer than they may take; nothing: enough have again. Told when it
  // changes, and forgotten with the connection.
  virtual void on_replicas_missing(const std::optional<Error>& /*error*/) {}
  virtual void on_done(Ticket ticket, const Outcome& outcome) = 0;
  virtual void on_lost(Ticket ticket) = 0;
  virtual void on_record_saved(std::uint64_t sequence) = 0;
  // After it, for this record or one that was saved later: as many replicas as the cache asks for (where it asks for none, at
  // once) have the record, and with it all that the cache had answered before the record was sent.
  virtual void on_record_confirmed(std::uint64_t sequence) = 0;
  virtual void on_record_loaded(std::uint64_t sequence, const std::optional<Record>& record) = 0;
};

// What only an edge can tell. Counters count from the start of the process.
struct EdgeStatus {
  std::vector<std::pair<std::string, std::uint64_t>> requests;  // by outcome: evictd_edge_requests_total{outcome}
  std::uint64_t keys_purged = 0;
  std::uint64_t purges_of_all = 0;
  std::uint64_t gaps_ignored = 0;  // on_gap: ignore
  std::uint64_t backlog_keys = 0;  // taken, and not asked for yet
};

struct SinkStatus {
  bool connected = false;
  std::string state;  // for /status
  std::optional<std::uint64_t> evicted_keys;    // INFO stats
  std::optional<std::string> problem;           // connected, yet not writable
  std::optional<std::string> held_up;           // orders that cannot be carried out for now, and why: not ready
  // What readers did, by outcome: evictd_fills_total{outcome}. Empty where readers' calls are not counted.
  std::vector<std::pair<std::string, std::uint64_t>> fills = {};
  std::optional<EdgeStatus> edge = {};
  // Of indexes of vectors, by what was done: evictd_semantic_total{what}. Empty where there was no such order yet.
  std::vector<std::pair<std::string, std::uint64_t>> semantic = {};
};

class Sink {
 public:
  virtual ~Sink() = default;
  virtual SinkTraits traits() const { return {}; }
  virtual void start(Now now) = 0;
  virtual void step(Now now, SinkHandler& handler) = 0;
  virtual void wait_for(Waiting& waiting) = 0;
  virtual void set_context(const SinkContext& context) = 0;
  // Why rules that ask for this cannot be served here, as far as is known by now of what is behind this sink. Rules that are refused are
  // not taken over while evictd runs. A sink that has them all the same, since it was started with them or found out later, is away and
  // says so until it is given others: the other caches are followed meanwhile (G9).
  virtual std::optional<Error> refusal(const SinkContext& /*context*/) const { return std::nullopt; }

  // Room for one more order of ordinary size. Bulk orders have a room of their own.
  virtual bool has_room(Urgency urgency) const = 0;
  // REQUIRES: connected and has_room(order.urgency()). What `order` points to must stay alive and unchanged until it ends.
  virtual void submit(Ticket ticket, const Order& order) = 0;

  // Writes the record; on_record_saved(record.sequence) when it is stored, on_record_confirmed() then or later. Lost silently
  // with the connection (the lane writes a newer one after on_sink_connected). REQUIRES: connected.
  virtual void save_record(const Record& record) = 0;

  // Reads the record as it stands now; on_record_loaded(sequence). Lost silently with the connection (the next
  // on_sink_connected has it). REQUIRES: connected.
  virtual void load_record(std::uint64_t sequence) = 0;

  // Of a cache that is made of several servers: parts of it that came back with older data than what is on record, or with no
  // record at all, while the others have it. As of the last on_sink_connected() or on_record_loaded(). Opaque names, which
  // Order::parts takes.
  virtual std::vector<std::string> lost_parts() const { return {}; }

  // The cache evicts keys, and may have evicted what its rules keep beside the values (SinkContext::kept); status().problem says so. By what
  // was seen last, also while there is no connection. Once it is over, what may have been lost is to be purged.
  virtual bool is_losing_keys() const { return false; }

  // Closes at once, with no further step, and tells nothing of what is under way. REQUIRES: not called inside step().
  virtual void stop() = 0;
  virtual SinkStatus status() const = 0;
};

}  // namespace evictd
