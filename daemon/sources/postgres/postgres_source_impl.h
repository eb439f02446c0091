// The inside of the PostgreSQL source: one machine of explicit states over the three connections.
//
// clang-format off
//   waiting -> connecting -> reading -> judging -> repairing -> creating slot -> first snapshot -> starting -> streaming
//      ^                        |     (gaps, G6)  (publication,                                                   |
//      |                     standby               drop slot)                                                     |
//      |                  (slot in use)                                                                           |
//      +------------------------+--------------------- any failure, a new connection -----------------------------+
// clang-format on
//
// Split over postgres_source.cpp (the interface and the ways down), source_connect.cpp (up to
// streaming), source_standby.cpp, and source_stream.cpp (streaming and what runs beside it). What is decided is decided by owners without
// connections and clocks, which the fields name; here is what follows from it.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "daemon/sources/postgres/as_stored.h"
#include "daemon/sources/postgres/catalogue_watch.h"
#include "daemon/sources/postgres/failure.h"
#include "daemon/sources/postgres/first_address.h"
#include "daemon/sources/postgres/heartbeat.h"
#include "daemon/sources/postgres/later_primary.h"
#include "daemon/sources/postgres/lookups.h"
#include "daemon/sources/postgres/outage.h"
#include "daemon/sources/postgres/own_session.h"
#include "daemon/sources/postgres/pgoutput.h"
#include "daemon/sources/postgres/plan.h"
#include "daemon/sources/postgres/postgres_source.h"
#include "daemon/sources/postgres/publishing_barrier.h"
#include "daemon/sources/postgres/read_pace.h"
#include "daemon/sources/postgres/recurring.h"
#include "daemon/sources/postgres/replication.h"
#include "daemon/sources/postgres/retries.h"
#include "daemon/sources/postgres/rules_check.h"
#include "daemon/sources/postgres/server_clock.h"
#include "daemon/sources/postgres/slot_wait.h"
#include "daemon/sources/postgres/snapshot_requests.h"
#include "daemon/sources/postgres/snapshots.h"
#include "daemon/sources/postgres/stream_xids.h"
#include "daemon/sources/postgres/told_problems.h"
#include "daemon/sources/postgres/wal_claims.h"
#include "daemon/sources/postgres/worker.h"

namespace evictd {

// Said of a stream that is not given up yet: the server may be at a large transaction of which it sends nothing.
inline constexpr const char* kSilentText = "PostgreSQL says nothing in the stream, although it was asked: what has changed since is not known yet";
inline constexpr const char* kCatalogueLateText =
    "PostgreSQL does not answer questions about its catalogue for more than 5 s";

class PostgresSource final : public Source, private PgoutputReceiver {
 public:
  explicit PostgresSource(PostgresOptions options);

  void start(Now now) override;
  void proceed(const std::set<std::string>& on_record) override;
  void step(Now now, std::size_t bytes_max, SourceHandler& handler) override;
  void wait_for(Waiting& waiting, bool want_data) override;
  void acknowledge(const Position& end) override;
  void request_snapshot() override;
  void look_up(LookupRequest request, Now now) override;
  void set_tables(const std::vector<std::string>& tables) override;
  void check_rules(const RuleSet& rules) override;
  std::optional<Result<void>> take_rules_check() override;
  void restart(Now now) override;
  bool stop(Now now) override;
  SourceStatus status() const override;

 private:
  enum class State {
    kIdle,
    kWaiting,
    kConnecting,
    kReading,
    kJudging,
    kRepairing,
    kCreatingSlot,
    kFirstSnapshot,
    kStarting,
    kStreaming,
    kStandby,
    kFailed,
    kStopping,
    kStopped,
  };

  // Up to streaming: source_connect.cpp.
  void advance();
  void connect();
  void identified();
  void read_facts(Conninfo catalogue);
  void take_facts();
  void judge_facts();
  void tell_requirements(const Requirements& requirements, const Facts& facts);
  void repair();
  void repaired();
  void create_slot();
  void first_snapshot();
  void start_streaming();
  void streaming_began();
  void poll_standby();
  void become_standby(const std::string& holder);
  void learn_names(const Facts& facts);
  void set_problems(const Facts& facts);

  // Every way down: reports, cleans up, and waits for the next attempt.
  void trouble(Error error);
  void stream_failed();
  void disconnect(const Error& error, std::chrono::milliseconds wait);
  void give_up(const Error& error);
  void read_as_stored(const PostgresFailure& failure);
  void leave_as_stored(Lsn confirmed);
  void notice(PostgresNotice said);
  void notice(bool is_warning, std::string text, std::string hint = {});

  // Streaming: source_stream.cpp.
  void stream(std::size_t bytes_max);
  void take_message(const StreamMessage& message);
  void take_keepalive(Lsn end);
  void believe(Lsn end);
  void prove(std::uint64_t number, Lsn end);
  void decode(Lsn start, std::string_view payload);
  bool hold_for_name(Lsn start, std::string_view payload);
  void resolved(const Result<Catalogue::Resolved>& answer);
  void deliver_snapshots();
  void deliver_lookups();
  void run_side_work();
  void watch_snapshots();
  void watch_catalogue();
  void watch_silence();
  void try_first(const Conninfo& server);
  CatalogueWorker& host_worker(const std::string& name);
  void look_hosts_up();
  void ask_other_host(const std::string& other);
  void other_host_answered(const std::string& other, const Result<ServerHistory>& answer);
  void look_at_catalogue();
  void looked_at_catalogue(Result<Facts> answer);
  void read_statistics();
  void emit_heartbeat(std::string content);
  void doubt_newest();

  // PgoutputReceiver
  void on_begin(const BeginMessage& begin) override;
  void on_change(const Change& change) override;
  void on_commit(Lsn end) override;
  void on_relation_gone(const Relation& relation) override;
  void on_logical_message(std::string_view prefix, std::string_view content) override;

  // Runs `work` on the side thread and `then` with its result on this one, unless the attempt to
  // connect that it belongs to is over by then.
  template <typename Work, typename Then>
  void ask(Work work, Then then) {
    using Answer = std::invoke_result_t<Work, Catalogue&>;
    worker_.submit(
        [this, work = std::move(work), then, attempt = attempt_](Catalogue& catalogue) {
          return CatalogueWorker::Completion([this, attempt, then, result = work(catalogue)]() mutable {
            if (attempt == attempt_) then(std::move(result));
          });
        },
        [this, then, attempt = attempt_](const Error& why) {
          if (attempt == attempt_) then(Answer(tl::unexpected<Error>(why)));
        });
  }

  bool is_streaming() const { return state_ == State::kStreaming; }
  Subject subject() const;
  FailureContext failure_context() const;
  PlanInput plan_input(const Facts& facts) const;

  PostgresOptions options_;
  std::string slot_;
  std::vector<std::string> tables_;
  State state_ = State::kIdle;
  Now now_{};                         // of this step
  SourceHandler* handler_ = nullptr;  // inside step() only

  Conninfo conninfo_;  // as configured
  FirstAddress first_address_;
  ReplicationStream stream_{first_address_.resolver()};
  Snapshots snapshots_;
  Lookups lookups_;
  std::optional<LookupAnswer> refused_lookup_;  // of what the tables do not have
  PgoutputDecoder decoder_;

  // One attempt to connect, from connecting to its failure.
  std::uint64_t attempt_ = 0;
  std::optional<Result<Facts>> facts_answer_;
  Facts facts_;
  Plan plan_;
  bool slot_predates_publication_ = false;
  bool may_proceed_ = false;
  struct Repaired {
    std::vector<std::string> published;  // the tables that were published anew
    std::uint64_t barrier = 0;   // every transaction older than the publication's change has a lower id; 0: no change
    std::optional<Facts> facts;  // as they were after it
  };
  std::optional<Result<Repaired>> repair_answer_;
  SlotWait slot_wait_;
  Lsn confirmed_;  // of the slot, when streaming begins
  OwnSession own_session_;
  std::optional<Conninfo> to_try_first_;  // of several hosts, or addresses

  Retries retries_;
  ToldProblems told_problems_;
  std::vector<PostgresNotice> notices_;  // for the next step
  std::optional<Error> pending_restart_;

  // Streaming.
  ReadPace pace_;
  std::optional<std::pair<Lsn, std::string>> held_;  // a relation message whose name is being looked up
  WalClaims claims_;
  StreamXids xids_;
  ServerClock clock_;
  SystemTime commit_time_{};  // of the transaction under way
  std::string impossible_;  // what a begin said that cannot be
  AsStored as_stored_;
  Outage silence_;
  SteadyTime unacknowledged_since_{};  // or later: the last step at which nothing was

  // Beside it.
  SnapshotRequests wanted_;
  Outage snapshots_away_;
  Outage catalogue_away_;
  PublishingBarrier barrier_;
  CatalogueWatch watch_;
  Heartbeat heartbeat_;
  Recurring counting_;  // of what follows
  std::optional<SlotStatistics> statistics_;
  RulesCheck rules_check_;
  LaterPrimary later_primary_;
  bool polling_slot_ = false;
  CatalogueWorker worker_;
  // For each other host: one that does not answer holds up no question to another. Without a name: for looking names up.
  std::map<std::string, CatalogueWorker> host_workers_;
};

}  // namespace evictd
