// The ledger: what one cache has on record, and the only judge of records. Pure: it decides, others read and write.
//
// Who may say what, and when:
//
//   a cache connects     found(stored)      first | ours | another's | rolled back
//   the source connects  judge(facts)       gaps of this cache: what its record lacks of what the source can still send
//   streaming begins     connection_begins(...)  what is known of another history is forgotten, also while the cache is away
//                        streaming(...)     the record speaks of this epoch, these tables, these rules from here on
//   first deletes done   applied(position)  never beyond a batch that lacks one (the lane's prefix)
//   a stream goes on     awaited()          what has to come again, if the server is still of the history we know
//   work is finished     finished(position) never beyond an unfinished batch (the lane's prefix)
//   time to write        due(), take()      one record at a time, each with the next sequence
//   the cache has it     stored(sequence)   what waits for the record goes on: repairs, new streams
//   its replicas, too    confirmed(seq.)    only then may the source be told: recorded()
//   a gap is found       open_gap()         on record before anything irreversible; close_gap() after its repair
//   a peer works         release()          what we know is old, nothing of it is written; the next found() adopts
//   streams are taken up use_streams()      their names are on record before anything of them is applied
//
// Sequences go on from whoever wrote before (Record::sequence), so a record that comes before one that we knew is older data,
// whoever held the source meanwhile: fell_back().
//
// A record is "ours" if it may be the last, by writer and sequence: the last one known to be stored (ours, or the one we
// adopted), or any of ours sent since. Contents are never compared: they are made of what we know and would follow it. An older
// sequence of ours, or, while we hold the source, anybody else's record is a cache that came back with old data.
//
// Where replicas confirm, an older one of ours is as good as the last, down to the last that was confirmed: nothing beyond that
// was told to the source, so all that the cache lacks is sent again. Not so where a repair ended in between, or a history began:
// what was purged is sent by nobody, and positions of two histories do not compare.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/interface/record.h"
#include "daemon/interface/source.h"

namespace evictd {

class Ledger {
 public:
  // `writer`: of this process and cache, see Record::writer. `interval`: between two records, and so acknowledgements.
  // `is_shared`: others write the record, too, each with numbers of its own (Source::is_shared()).
  Ledger(std::string writer, std::chrono::milliseconds interval, bool is_shared = false);
  bool is_shared() const { return is_shared_; }

  enum class Found {
    kFirst,       // no record: nobody has worked on this cache, or it was emptied before we knew it
    kOurs,        // the last we know of
    kAnothers,    // adopted: written by whoever held the source before us
    kRolledBack,  // not the last one: the cache lost what came after
  };
  // Judges what a cache has on record, at each of its connections and whenever it was read anew. Unless we hold the
  // source it becomes what we know. `is_same_process`: the cache is the one we know, so it has lost nothing; without that,
  // a record that a peer wrote (is_shared()) cannot be told from a rollback.
  Found found(const std::optional<Record>& stored, bool is_same_process = false);
  // What was found last comes before what this process knew to be on record, whoever wrote either: the cache has older data.
  bool fell_back() const { return fell_back_; }
  // Something was found() in this cache: judge() has a meaning.
  bool is_known() const { return is_known_; }

  // What this cache has missed, or may have. Sorted out: at most one gap that concerns all tables, else those of tables.
  // REQUIRES: is_known().
  std::vector<Gap> judge(const SourceFacts& facts) const;
  // The part of it that this record happens to prove, and that concerns every cache, whatever their own records say: the server was set
  // back to an earlier moment, and what others hold of the stretch that is gone may have been read before they had heard of it.
  std::optional<Gap> set_back(const SourceFacts& facts) const;
  // Tables whose rules are others than on record, "schema.table"; `rules`: as Record::rules. Empty at a first start.
  std::vector<std::string> changed_rules(const std::map<std::string, std::uint64_t>& rules) const;
  // New rules are in force: their digests go on record (with the gap that purges what they match).
  void use_rules(std::map<std::string, std::uint64_t> rules);

  // Ours to write from here on: streaming begins, or a gap must be put on record before it. Until release().
  void hold() { holds_ = true; }
  void release();
  bool holds() const { return holds_; }
  bool is_first_start() const { return record_.epoch.empty(); }

  // Streaming has begun. `cache_time`: by the clock of the cache. Positions of an earlier connection are forgotten:
  // they may speak of another history. `starts_anew`: so are those on record (a new slot, a repaired gap). True when the
  // history is the one before: positions mean the same transactions. A source that is another process (its instance) may be
  // one that went back and gives positions away again, so it is believed of nothing (G5).
  bool streaming(const SourceConnected& connected, std::chrono::milliseconds cache_time, bool starts_anew);
  // After streaming(): by stream name, the end of a transaction that we know from before and that this connection has to send
  // again. Where something beyond it comes first, the server was set back meanwhile and its log has gone another way, which
  // neither its name nor its positions tell. Asked of a server that is another process than it was, until it has come, however many
  // connections and processes of ours that takes.
  const std::map<std::string, std::uint64_t>& awaited() const { return awaited_; }
  // Another connection begins, whether or not the cache is there to be judged: what the last one had to send again is forgotten, and
  // what is known, if it is of another history. False if it is.
  bool connection_begins(const SourceConnected& connected);
  void use_tables(const std::map<std::string, std::string>& tables);
  // Streams that are read from here on go on record at once: see SourceHandler::on_streams().
  void use_streams(const std::map<std::string, std::uint64_t>& begins);
  // True when every stream taken up so far is in a stored record.
  bool streams_are_stored() const { return !holds_ || stored_ >= stream_first_in_; }

  // The finished prefix has reached `end`; `name`: its stream's.
  void finished(const Position& end, const std::string& name);
  // The same of what an earlier connection of this history began: known, and not to be told to the source by this one.
  void finished_earlier(const Position& end, const std::string& name);
  // True when everything up to `value` is known to be finished here, in this or an earlier connection of the same history.
  bool is_finished(const std::string& name, std::uint64_t value) const;
  // The prefix whose first deletes are done has reached `end`, the end of a transaction. While we do not hold the source, it is not
  // yet part of what judge() looks at: the facts are those of the moment at which the source connected, and this came after them.
  void applied(const Position& end, const std::string& name);
  // True when every first delete up to `value` is known to be done here, likewise.
  bool is_applied(const std::string& name, std::uint64_t value) const;
  // Whatever lies beyond one of these is no longer known to be applied, or to be finished.
  std::map<std::string, std::set<std::uint64_t>> known_ends() const;
  // What is done and not on record may be undone: the cache came back as another process. Until the next connection of
  // the source, nothing that follows may be told to be done either: what lies before it may be missing.
  void forget_unrecorded();
  // Everything on record speaks of what this cache no longer has; only a redelivery from `confirmed` on counts.
  // (A parked cache that returns.)
  void rebase(const std::map<std::string, std::uint64_t>& confirmed);

  // False: no server but this one was ever on record, and nothing says that a record was lost, so that no reader can have read
  // what was lost with one before it.
  bool may_follow_another_history() const { return may_follow_another_history_; }

  void open_gap(const std::string& reason);
  void close_gap(const std::string& reason);
  const std::set<std::string>& gaps() const { return record_.gaps; }
  // This gap is open, and no record that is known to be stored names it: whoever comes after this process would not know of it.
  bool is_untold(const std::string& gap) const { return record_.gaps.contains(gap) && !stored_gaps_.contains(gap); }
  // True when every gap opened so far is in a stored record.
  bool gaps_are_stored() const { return record_.gaps.empty() || stored_ >= gap_first_in_; }

  // When the next record is due; max(): not by the clock. `is_hurried`: whatever is not on record is due at once.
  SteadyTime due(SteadyTime now, bool is_hurried) const;
  // The record to be written now. REQUIRES: none is under way.
  const Record& take(SteadyTime now);
  bool is_under_way() const { return under_way_ != 0; }
  void stored(std::uint64_t sequence);
  // This one, and all that were stored before it, are where they have to be.
  void confirmed(std::uint64_t sequence);
  // The one under way may or may not have arrived.
  void lost();

  // By stream, what is finished and on record in this connection, and confirmed: may be told to the source, as far as it goes.
  const std::map<std::uint32_t, std::uint64_t>& recorded() const { return recorded_; }
  bool is_all_recorded() const { return done_ == recorded_; }

  const Record& record() const { return record_; }

 private:
  void forget_positions();
  void note_committed();  // what is applied goes into the record as committed
  bool is_of(const SourceConnected& connected) const;
  void forget_known();

  const std::string writer_;
  const std::chrono::milliseconds interval_;
  const bool is_shared_;

  Record record_;           // as it should stand
  bool is_known_ = false;
  bool fell_back_ = false;
  bool holds_ = false;
  bool may_follow_another_history_ = false;
  bool is_dirty_ = false;   // something that must not wait has changed

  // The last record known to be in the cache, whoever wrote it; absent: there was none. Those of ours that were sent after
  // `unsure_after_` may have arrived as well.
  struct Written {
    std::string writer;
    std::uint64_t sequence = 0;
    friend bool operator==(const Written&, const Written&) = default;
  };
  std::optional<Written> last_;
  std::uint64_t unsure_after_ = 0;
  std::uint64_t stored_ = 0;     // sequence of the last of ours known to be stored
  std::uint64_t sent_ = 0;       // of the last one sent
  std::uint64_t under_way_ = 0;  // 0: none
  std::uint64_t confirmed_ = 0;  // the last of ours that was; 0: none
  std::uint64_t as_good_from_ = 0;  // older ones of ours than this are never as good as the last
  std::uint64_t gap_first_in_ = 0;
  std::uint64_t stream_first_in_ = 0;
  std::set<std::string> stored_gaps_;      // of the last record known to be stored
  std::set<std::string> under_way_gaps_;
  SteadyTime written_at_ = SteadyTime::min();

  struct Done {
    std::string name;
    std::uint64_t value = 0;
    friend bool operator==(const Done&, const Done&) = default;
  };
  std::map<std::uint32_t, std::uint64_t> done_;         // finished in this connection
  std::map<std::uint32_t, std::string> names_;          // of the streams in done_
  std::map<std::uint32_t, std::uint64_t> under_way_positions_;  // of the last record that was made
  // Stored, and not confirmed: the oldest one, which is asked for, and the newest.
  struct Unconfirmed {
    std::uint64_t sequence = 0;
    std::map<std::uint32_t, std::uint64_t> positions;
  };
  std::deque<Unconfirmed> unconfirmed_;
  std::map<std::uint32_t, std::uint64_t> recorded_;
  // Over the connections of one history: on record when we found it, and what came since. What peers share says nothing
  // about what is finished or applied, so there it is ours alone.
  std::map<std::string, std::uint64_t> finished_;
  std::map<std::string, std::uint64_t> applied_;
  // Of applied_, what is of whoever wrote before us: its settle has been put off once, by a death, and is counted anew.
  std::map<std::string, std::uint64_t> inherited_;
  std::map<std::string, std::uint64_t> applied_taken_;  // of them, what the last record was made with
  std::map<std::string, std::uint64_t> awaited_;
  // What the record that the cache came with said, and of which history; and what of it is known in the one that streams, if that
  // is another.
  struct OnRecord {
    Epoch epoch;
    std::string source_instance;
    std::map<std::string, std::uint64_t> finished;
    std::map<std::string, std::uint64_t> applied;
  };
  OnRecord on_record_;
  std::map<std::string, std::uint64_t> begun_with_;
};

}  // namespace evictd
