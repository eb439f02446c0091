// A source: where transactions come from (PostgreSQL's replication stream, Kafka). The interface is dumb
// on purpose: what to do with a transaction, when to acknowledge, what a gap means is decided in flow/.
//
// Contract, held by tests/contract for every source and for the fake:
//  - All calls come from the one loop thread; handler calls are made only from inside step().
//  - After start(), the source connects, and reconnects with capped backoff, for ever; it reports each
//    change of state once. Nothing blocks.
//  - Transactions are delivered whole and in order per stream: begin, changes, commit. After a
//    reconnect, every transaction not acknowledged is delivered again, from its begin; a transaction
//    cut off by the disconnect has no commit.
//  - The source acknowledges nothing by itself: what it tells the server is exactly what acknowledge() was
//    given (repeated in keepalive replies).
//  - Commits may arrive before other sessions can see them; snapshots tell (DESIGN.md, "The protocol").
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/interface/lookup.h"
#include "daemon/interface/record.h"
#include "daemon/interface/version.h"
#include "daemon/base/waiting.h"
#include "mapping/change.h"
#include "mapping/error.h"
#include "mapping/rules.h"

namespace evictd {

// The name of the one stream of a source that has no others.
inline constexpr const char* kOnlyStream = "wal";

// Where a source can resume. Only for acknowledging; never compared to decide what is fresh.
struct Position {
  std::uint32_t stream = 0;  // an index the source gives out, see Source::stream_name
  std::uint64_t value = 0;   // PostgreSQL: commit end LSN. Kafka: offset of the next record
  friend bool operator==(const Position&, const Position&) = default;
};

struct TransactionBegin {
  std::uint32_t stream = 0;
  Xid xid{};               // 64-bit; none (0) where the source has no transaction ids
  SystemTime commit_time;  // by the source's clock
  // A time at which the transaction was in the stream already, though not read, by our clock; absent: not known.
  // Where there are no snapshots, it counts as visible since then.
  std::optional<SteadyTime> known_since = {};
  // Where it lies in its stream: less than its end, and not less than the end of any before it. Absent: known at its
  // commit only.
  std::optional<std::uint64_t> place = {};
  // When it was committed by our clock, where the source knows how its own differs. Absent: as `commit_time` says.
  std::optional<SteadyTime> committed_at = {};

  SystemTime committed(Now now) const {
    return committed_at ? now.system - std::chrono::duration_cast<SystemTime::duration>(now.steady - *committed_at) : commit_time;
  }
};

// A stretch of the change stream that can no longer be read (G6).
struct Gap {
  std::string reason;               // label of evictd_gaps_total: "slot_lost", "slot_missing", ...
  std::string detail;               // for the log
  std::vector<std::string> tables;  // empty: any mapped table may be affected
  // Nothing that was promised is lost: the rules name tables that nobody has followed until now.
  bool is_expected = false;
};

// What the source finds before it streams or changes anything on the server. Whether anything is missing is judged
// from this and from what each cache has on record, by the ledger (flow/ledger.h); the source knows no record.
struct SourceFacts {
  Epoch epoch;           // empty: known later only, and nothing to judge by
  std::string identity;  // what positions live in, see Record::source_identity; empty: likewise
  // Something was promised before: there is a slot, or a consumer group that has read.
  bool has_history = false;
  // What is wrong where there is a history, but a cache has no record of it ("record_missing").
  Gap if_not_on_record;
  // What is wrong where a cache has a record, but there is no history ("slot_missing"). Absent: nothing.
  std::optional<Gap> if_on_record;
  // What is missing whatever is on record: the slot is lost, the publication was gone.
  std::vector<Gap> gaps;
  // By stream name, what the server was told last. A cache with less on record has missed something, or somebody
  // else moved it ("slot_moved").
  std::map<std::string, std::uint64_t> confirmed;
  // Likewise, how far the server's log reaches. A cache that has more on record knows another history: the server was set back
  // to an earlier moment ("epoch_changed"). Absent: not known.
  std::map<std::string, std::uint64_t> ends = {};
  // Tables named by the rules whose changes reach us or will, "schema.table" -> digest text.
  std::map<std::string, std::string> tables;
  // Why a table that is on record with the digest `before` may have missed something: the reason of the gap
  // ("table_recreated", "unpublished", "partitions_changed", "table_changed"), empty: it has not. Absent: any other digest
  // is a "table_changed".
  std::function<std::string(const std::string& table, const std::string& before)> difference = {};
};

// Streaming has begun.
struct SourceConnected {
  Epoch epoch;
  // Changes when the server process is another one (PostgreSQL: postmaster start time). Versions read before
  // are then not trusted: a crash can undo asynchronous commits and reuse their xids.
  std::string instance;
  std::string source_identity;                 // see Record
  std::map<std::string, std::string> tables;   // see Record
  bool has_snapshots = false;                  // request_snapshot() will be answered
  std::map<std::string, std::uint64_t> streams = {};  // see SourceHandler::on_streams()
  // By stream name, where a stream whose history can be told goes on: every transaction that ends beyond it is sent, also one
  // that was sent before. Absent: nothing can be concluded from what does not come again.
  std::map<std::string, std::uint64_t> begins = {};
};

// A change of which nothing more is known than that it was one (a record that cannot be decoded, the first
// one after a gap): everything the rules of these tables may have cached must go.
struct UnknownChange {
  std::vector<std::string> tables;  // "schema.table"; empty: any mapped table
  std::string detail;               // for the log
};

class SourceHandler {
 public:
  virtual ~SourceHandler() = default;

  // What the source found at this attempt to connect. It waits for proceed() before it does anything that would make a
  // gap unfindable (such as creating the slot anew), so that the gap can be put on record first.
  virtual void on_facts(const SourceFacts& facts) = 0;
  // Streaming has begun (again). Everything unfinished from an earlier connection will come again.
  virtual void on_connected(const SourceConnected& connected) = 0;
  // What the source says of its tables has changed in a way that misses nothing, or whose gap was told before.
  virtual void on_tables(const std::map<std::string, std::string>& tables) = 0;
  // Streams that are read from here on, by name, each with the position it begins at. On record before anything of them
  // is applied: whoever finds one there and no place to go on from knows that something is missing, also where
  // nothing was ever acknowledged. The default is for sources of one stream, and for those who only look on.
  virtual void on_streams(const std::map<std::string, std::uint64_t>&) {}
  virtual void on_disconnected(const Error& error) = 0;
  // Another process holds the slot; `holder` says who. Repeated while it lasts, at the source's pace.
  virtual void on_standby(std::string_view holder) = 0;
  // The source cannot go on by itself. kFatal or kUsage end the process; the source stays stopped.
  virtual void on_failed(const Error& error) = 0;

  virtual void on_begin(const TransactionBegin& begin) = 0;
  virtual void on_change(const Change& change) = 0;
  // In the place of a change. The transaction is not finished before its purges are. The default is for
  // those who only look on.
  virtual void on_unknown_change(const UnknownChange&) {}
  virtual void on_commit(const Position& end) = 0;
  // A relation is about to be destroyed.
  virtual void on_relation_gone(const Relation& relation) = 0;

  // A gap was found while streaming.
  virtual void on_gap(const Gap& gap) = 0;

  // The answer to request_snapshot(), taken after the request was made.
  virtual void on_snapshot(const Snapshot& snapshot) = 0;
  // The answer to look_up(). The default is for those who never ask.
  virtual void on_found(const LookupAnswer&) {}
  // Our own heartbeat, which was sent at that time, came back through the stream: so has everything that was there before it.
  virtual void on_heartbeat(SteadyTime sent) = 0;

  // The server has sent everything up to `position` and nothing of it is still to come (a keepalive of an idle
  // or foreign-busy database). Not called between begin and commit. It is acknowledged when
  // nothing is unfinished; the source never acknowledges by itself.
  virtual void on_keepalive(const Position& position) = 0;
};

// What only a Kafka source can tell. Counters count from the start of the process.
struct KafkaStatus {
  std::map<std::string, std::uint64_t> lag_messages;  // by topic, of the partitions held: end - acknowledged
  std::uint64_t rebalances = 0;
  std::uint64_t poison_records = 0;
  std::uint64_t dead_letters_lost = 0;  // not written: the file cannot be
  std::optional<SystemTime> last_record_time;  // when the newest record read was committed
};

// Numbers for metrics and /status; absent when not known.
struct SourceStatus {
  bool connected = false;
  bool active = false;  // holds the slot
  std::string state;    // one or two words for /status: "streaming", "waiting for slot", ...
  std::optional<std::uint64_t> lag_bytes;             // server WAL end - acknowledged
  std::optional<std::uint64_t> slot_retained_bytes;
  std::optional<std::int64_t> slot_safe_wal_bytes;
  std::optional<std::string> problem;  // why readiness must be refused, although connected
  std::optional<KafkaStatus> kafka;
};

class Source {
 public:
  virtual ~Source() = default;

  // Begins connecting.
  virtual void start(Now now) = 0;

  // The answer to on_facts(): what had to be put on record is. `on_record`: the names of streams some cache has a
  // position of, so of which something was read before.
  virtual void proceed(const std::set<std::string>& on_record) = 0;

  // The name of a stream, stable over restarts and daemons: what records call it. PostgreSQL has one stream, "wal";
  // Kafka one for each partition (and each new life of it).
  // The default is for sources of one stream.
  virtual std::string stream_name(std::uint32_t) const { return kOnlyStream; }

  // Others read other streams of the same source at the same time, and write the same record (a consumer group): positions and
  // numbers found there may be theirs, and old. Always the same.
  virtual bool is_shared() const { return false; }

  // One bounded, non-blocking piece of work: connects, reads and decodes at most about `bytes_max` of
  // the stream, sends what is due. With bytes_max 0 nothing is taken from the stream (nobody has
  // room), but keepalives, snapshots and acknowledgements still flow.
  virtual void step(Now now, std::size_t bytes_max, SourceHandler& handler) = 0;

  // What to wait for. `want_data`: whether the stream's descriptor is polled for reading.
  virtual void wait_for(Waiting& waiting, bool want_data) = 0;

  // Tells the source that everything up to and including `end` need not be sent again. Positions of one
  // stream are given in increasing order. Sent by a following step().
  virtual void acknowledge(const Position& end) = 0;

  // Asks for a snapshot taken from now on. At most one is under way; a further request while one is
  // under way is answered by a later snapshot, never by the earlier one.
  virtual void request_snapshot() = 0;

  // Finds rows of joined tables, in the state that a session sees from now on. REQUIRES: streaming, and nothing asked that is
  // not answered. The default is for sources that have no database: such rules are refused with them.
  virtual void look_up(LookupRequest, Now) {}

  // The tables that rules name from now on ("schema.table"): published and watched. Before start(), and
  // again after a reload of the rules.
  virtual void set_tables(const std::vector<std::string>& tables) = 0;

  // Compares rules that may be taken over (a reload) with what they name, as it is now. The answer is taken once it is
  // there: nothing, or what a start with these rules would have refused; kConnection: nobody can say now, ask again. The
  // default is for sources with nothing to compare with.
  virtual void check_rules(const RuleSet&) {}
  virtual std::optional<Result<void>> take_rules_check() { return Result<void>(); }

  // The redelivery of everything unacknowledged is wanted: drop the connection and make a new one.
  virtual void restart(Now now) = 0;

  // Sends pending acknowledgements and ends the stream politely; true when there is nothing left to do.
  virtual bool stop(Now now) = 0;

  virtual SourceStatus status() const = 0;
};

}  // namespace evictd
