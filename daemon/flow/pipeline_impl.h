// The inside of the pipeline, split over
//   pipeline.cpp         the turn of the loop, status, stop, reload
//   pipeline_receive.cpp what the source says: transactions into batches, visibility
//   pipeline_apply.cpp   what the sink says: first delete, settle, renew
//   pipeline_repair.cpp  gaps, purges, the record and the acknowledgement
#pragma once

#include <deque>
#include <list>
#include <map>
#include <set>
#include <unordered_map>

#include "daemon/flow/batch_builder.h"
#include "daemon/flow/pipeline.h"
#include "daemon/flow/touched.h"
#include "daemon/flow/visibility.h"
#include "daemon/flow/work.h"
#include "mapping/mapper.h"

namespace evictd {

// Settles of one key or pattern that are due within this part of the settle time are one.
inline constexpr int kSettleTogether = 10;

class Pipeline::Impl final : public SourceHandler, public SinkHandler, public InvalidationReceiver {
 public:
  Impl(RuleSet rules, Source& source, Sink& sink, Observer& observer, PipelineOptions options);

  void start(Now now);
  void step(Now now);
  void wait_for(Waiting& waiting, Now now);
  void reload(RuleSet rules, Now now);
  void stop(Now now);
  PipelineStatus status() const;

  std::shared_ptr<const RuleSet> rules_;
  std::optional<Error> failure_;
  std::vector<PipelineEvent> events_;
  bool finished_stop_ = false;

 private:
  // ---- pipeline_receive.cpp: SourceHandler, InvalidationReceiver
  void on_connected(const SourceConnected& connected) override;
  void on_disconnected(const Error& error) override;
  void on_standby(std::string_view holder) override;
  void on_record_wanted() override;
  void on_failed(const Error& error) override;
  void on_begin(const TransactionBegin& begin) override;
  void on_change(const Change& change) override;
  void on_unknown_change(const UnknownChange& change) override;
  void on_commit(const Position& end) override;
  void on_relation_gone(const Relation& relation) override;
  void on_gap(const Gap& gap, bool needs_confirmation) override;
  void on_snapshot(const Snapshot& snapshot) override;
  void on_heartbeat() override;
  void on_keepalive(const Position& position) override;

  void key(std::uint32_t rule, std::string_view key) override;
  void tag(std::uint32_t rule, std::string_view tag) override;
  void bump(std::uint32_t rule, std::string_view counter) override;
  void row_version(std::uint32_t rule, std::string_view version) override;
  void purge(std::uint32_t rule, std::uint32_t pattern) override;
  void unmappable(std::uint32_t rule, UnmappableReason reason, std::string_view column) override;

  void make_room();
  void collapse(std::uint32_t rule);
  void forget_other_history();
  void tell_sink();
  void close_batch();
  bool batch_should_wait() const;
  SteadyTime batch_due() const;
  void count_changes();
  void poll_snapshots();
  bool wants_data() const;

  // ---- pipeline_apply.cpp: SinkHandler
  void on_sink_connected(const SinkConnected& connected) override;
  void on_sink_disconnected(const Error& error, std::string_view error_class) override;
  void on_sink_failed(const Error& error) override;
  void on_done(Ticket ticket, const Outcome& outcome) override;
  void on_lost(Ticket ticket) override;
  void on_record_saved(std::uint64_t sequence) override;
  void on_record_loaded(std::uint64_t sequence, const std::optional<Record>& record) override;

  void enqueue(Work& work, std::uint32_t part);
  void submit_ready();
  void first_act_done(Work& work, std::uint32_t part);
  void became_visible(Work& work);
  void wait_for_timer(Work& work, std::uint32_t part, SteadyTime due);
  void run_timers();
  void settle(Work& work, std::uint32_t part);
  bool left_to_later(const Work& work, const Part& part, std::uint64_t hash, std::string_view text) const;
  void finish_part(Work& work, std::uint32_t part);
  void applied(Work& work);
  void finished(Work& work);
  void abandon(Work& work);
  void note_touched(const Batch& batch);

  // ---- pipeline_repair.cpp
  struct Repair {
    std::string reason;
    std::vector<std::string> tables;  // empty: all
    bool counted = true;              // a gap; false for the purge of a first start or of new rules
    bool after_connect = false;       // starts only when the source streams (again)
    bool started = false;
    bool has_applied = false;                  // one of `purges` has been answered
    bool ready = false;                        // `purges` are done; `late` no longer keep us from being ready
    std::set<std::uint64_t> purges = {};       // Work ids
    std::set<std::uint64_t> late_purges = {};  // for hanging commits, and for readers that began before the gap
  };
  void begin_repair(Repair repair, bool needs_confirmation);
  void start_repairs();
  void repair_purge_done(std::uint64_t repair, std::uint64_t work);
  void request_purge(std::uint32_t rule, std::uint32_t pattern, Work* dependent, std::uint64_t repair);
  void prepare_purge(Purge& purge);
  Purge& make_purge(std::shared_ptr<const RuleSet> rules, std::uint32_t rule, std::uint32_t pattern,
                    std::uint64_t repair);
  Purge& make_late_purge(std::shared_ptr<const RuleSet> rules, std::uint32_t rule, std::uint32_t pattern,
                         std::uint64_t repair);
  void purge_again_when_visible(const Purge& purge);
  bool later_purge_covers(const Purge& purge) const;
  void purge_first_act_done(Purge& purge);
  void purge_finished(Purge& purge);
  void batch_finished(Batch& batch);
  void merge_into(Batch& batch, std::list<std::unique_ptr<Batch>>::iterator earlier);
  void pop_finished();
  void adopt_record(const std::optional<Record>& record);
  void repair_again(const std::string& reasons);
  void note_stored(const std::optional<Record>& record);
  bool is_rolled_back(const std::optional<Record>& found) const;
  void repair_inherited_gap();
  SteadyTime record_due() const;
  void write_record();
  // The reasons of all repairs under way or inherited, for the record; or of those that keep us from being ready.
  std::string repair_reasons(bool with_late) const;

  void say(PipelineEvent::Level level, std::string text, std::string hint = {});
  std::chrono::milliseconds redis_time() const;

  Source& source_;
  Sink& sink_;
  Observer& observer_;
  const PipelineOptions options_;
  Now now_{};

  // Receiving.
  std::unique_ptr<Mapper> mapper_;
  BatchBuilder builder_;
  std::vector<std::uint64_t> keys_in_transaction_;  // per rule
  std::vector<bool> collapsed_;                     // per rule, in this transaction
  std::string row_version_;                         // of the rule that is being mapped
  struct Counted {
    std::string table;
    std::uint64_t by_operation[4] = {};
  };
  std::unordered_map<std::uint64_t, Counted> change_counts_;  // by Relation::generation
  const Relation* last_relation_ = nullptr;
  bool last_is_mapped_ = false;
  Counted* last_counted_ = nullptr;
  Visibility visibility_;
  bool source_started_ = false;
  bool source_connected_ = false;
  bool standby_ = false;
  std::uint64_t session_ = 0;  // counts source connections
  std::uint64_t received_transactions_ = 0;
  std::uint64_t finished_transactions_ = 0;

  // Held work.
  std::list<std::unique_ptr<Batch>> batches_;            // in order of arrival
  std::map<std::uint64_t, std::unique_ptr<Purge>> purges_;
  std::unordered_map<std::uint64_t, Work*> alive_;        // by id
  std::vector<std::uint64_t> invisible_;                  // ids of work not known to be visible
  std::vector<std::unique_ptr<Work>> graveyard_;          // ended; destroyed at the end of the step
  SteadyTime building_since_{};                           // first invalidation of the open batch
  std::map<std::uint64_t, SystemTime> unapplied_;         // batch id -> oldest commit
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint64_t> waiting_purges_;    // (rule, pattern) -> id
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint64_t> under_way_purges_;  // first act
  std::size_t held_bytes_ = 0;
  std::uint64_t next_work_ = 1;
  Touched touched_;
  Timers timers_;

  // Applying.
  struct Ready {
    std::uint64_t work;
    std::uint32_t part;
  };
  std::deque<Ready> ready_;
  std::unordered_map<Ticket, Ready> tickets_;
  Ticket next_ticket_ = 1;
  bool sink_connected_ = false;
  bool sink_was_connected_ = false;
  std::string sink_instance_;
  std::chrono::milliseconds sink_time_{0};  // Redis TIME at sink_time_at_
  SteadyTime sink_time_at_{};
  std::optional<SystemTime> last_applied_commit_;
  std::optional<SteadyTime> last_heartbeat_;

  // Repair, record, acknowledgement.
  // Ours to write: from streaming, or a gap put on record before, until somebody else is seen to hold the source.
  bool record_is_ours_ = false;
  std::uint64_t record_wanted_ = 0;  // the newest load; 0: the source waits for none
  std::uint64_t record_loads_ = 0;
  std::string inherited_gap_;  // that the record had when we read it, until we stream and repair it
  std::optional<Record> record_;  // as it should stand in Redis
  // The last record known to be stored, by writer and sequence; none: there is none. Those of ours that were sent after
  // `record_unsure_after_` may be stored as well.
  struct Stored {
    std::string writer;
    std::uint64_t sequence = 0;
  };
  std::optional<Stored> record_stored_;
  std::uint64_t record_unsure_after_ = 0;
  bool record_dirty_ = false;     // something that must not wait changed
  bool gap_needs_confirmation_ = false;
  std::uint64_t record_sequence_ = 0;
  std::uint64_t record_under_way_ = 0;  // sequence, 0: none
  std::uint64_t gap_first_in_ = 0;  // the first record that holds the gap to be confirmed
  std::uint64_t record_session_ = 0;
  std::map<std::uint32_t, std::uint64_t> record_positions_;  // of the record under way
  SteadyTime record_written_at_ = SteadyTime::min();
  std::map<std::uint32_t, std::uint64_t> done_;          // finished positions of this session
  std::map<std::uint32_t, std::uint64_t> acknowledged_;  // told to the source in this session
  std::map<std::uint64_t, Repair> repairs_;
  std::uint64_t next_repair_ = 1;

  bool stopping_ = false;
  SteadyTime stopping_since_{};
};

}  // namespace evictd
