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
// streaming), source_standby.cpp, and source_stream.cpp (streaming and what runs beside it).
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "daemon/sources/postgres/failure.h"
#include "daemon/sources/postgres/lookups.h"
#include "daemon/sources/postgres/pgoutput.h"
#include "daemon/sources/postgres/plan.h"
#include "daemon/sources/postgres/postgres_source.h"
#include "daemon/sources/postgres/replication.h"
#include "daemon/sources/postgres/snapshots.h"
#include "daemon/sources/postgres/truncates.h"
#include "daemon/sources/postgres/worker.h"

namespace evictd {

inline constexpr const char* kCatalogueLateText =
    "PostgreSQL does not answer questions about its catalogue for more than 5 s";

// A server that is asked once more may have moved on: so many answers must say that a position does not exist.
inline constexpr int kContradictionsMax = 3;

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
  void read_facts();
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
  void notice(bool is_warning, std::string text, std::string hint = {});

  // Streaming: source_stream.cpp.
  void stream(std::size_t bytes_max);
  void take_message(const StreamMessage& message);
  void take_keepalive(Lsn end);
  void believe(Lsn end);
  void prove(Lsn end, std::uint64_t number);
  void decode(Lsn start, std::string_view payload);
  bool hold_for_name(Lsn start, std::string_view payload);
  void resolved(const Result<Catalogue::Resolved>& answer);
  void deliver_snapshots();
  void deliver_lookups();
  void run_side_work();
  void watch_snapshots();
  void watch_catalogue();
  void look_at_catalogue();
  std::chrono::nanoseconds look_interval(std::chrono::nanoseconds least, int rest) const;
  void looked_at_catalogue(Result<Facts> answer);
  void read_statistics();
  void emit_heartbeat();
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
        [this, then, attempt = attempt_] {
          if (attempt == attempt_)
            then(Answer(fail(ErrorKind::kConnection, "PostgreSQL does not answer questions asked before")));
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
  Conninfo pinned_;    // the server that answered
  ReplicationStream stream_;
  Snapshots snapshots_;
  Lookups lookups_;
  std::optional<LookupAnswer> refused_lookup_;  // of what the tables do not have
  PgoutputDecoder decoder_;
  SeenTruncates truncates_;
  // A file that no TRUNCATE explains was seen when the server's log ended here: judged when the stream has come so far.
  std::optional<Lsn> file_change_seen_;
  std::uint32_t xid_ = 0;  // the low 32 bits, of the transaction that comes in
  std::vector<std::string> told_problems_;
  std::vector<std::string> told_warnings_;
  std::chrono::nanoseconds look_took_{0};  // the last look at the catalogue
  std::string slot_waits_for_;  // whom the slot that is being created waits for, and what ends that

  // What the last stream of ours followed, and in which history: tables that were published before are not new to us.
  std::map<std::string, std::string> followed_;
  bool has_worked_ =
      false;  // streamed once: what would be a usage error may now be a passing state

  // One attempt to connect, from connecting to its failure.
  std::uint64_t attempt_ = 0;
  std::optional<Result<Facts>> facts_answer_;
  Facts facts_;
  Plan plan_;
  bool slot_predates_publication_ = false;
  bool may_proceed_ = false;
  struct Repaired {
    std::uint64_t barrier = 0;   // every transaction older than the publication's change has a lower id; 0: no change
    std::optional<Facts> facts;  // as they were after it
  };
  std::optional<Result<Repaired>> repair_answer_;
  std::vector<std::string> newly_published_;
  Lsn confirmed_;  // of the slot, when streaming begins
  // The server's process of our last stream: it lets go of the slot a moment after we left.
  int own_pid_ = 0;
  int release_waits_ = 0;

  // Retries.
  SteadyTime retry_at_{};
  std::chrono::milliseconds backoff_{0};
  SteadyTime streaming_since_{};
  Lsn acknowledged_before_;  // when the last attempt began, to see progress
  std::string last_trouble_;
  std::vector<PostgresNotice> notices_;  // for the next step
  std::optional<Error> pending_restart_;

  // Streaming.
  // Numbers of the snapshots that answer the first and the last request not answered yet; 0: none.
  std::uint64_t first_wanted_ = 0;
  std::uint64_t last_wanted_ = 0;
  SteadyTime refresh_at_{};
  std::optional<SteadyTime> snapshots_away_since_;
  bool told_snapshots_away_ = false;
  Xid near_{1};
  // The end of the server's WAL as an ordinary connection said it: positions of the stream beyond it are claims.
  Lsn proven_;
  // A keepalive's position that waits for its proof: the number of the snapshot that will tell (0: not asked yet), when
  // it may be asked for, and how many answers have contradicted.
  std::optional<Lsn> claimed_;
  std::uint64_t claim_number_ = 0;
  SteadyTime claim_at_{};
  int contradictions_ = 0;
  // The newest transaction that was handed out and that no snapshot has seen the end of, and since when it is asked
  // about.
  Xid newest_{0};
  Xid current_{0};  // in hand
  SteadyTime newest_at_{};
  std::string impossible_;  // what a begin said that cannot be
  Lsn last_acknowledged_;
  // A text that the server cannot turn into our encoding lies before this position (none: before the end of the WAL, when
  // the stream begins again): until that is acknowledged, the stream has texts as they are stored.
  std::optional<Lsn> as_stored_until_;
  Lsn record_;  // of the transaction in hand: where its commit record begins
  SteadyTime unacknowledged_since_{};  // or later: the last step at which nothing was
  std::optional<std::pair<Lsn, std::string>>
      held_;  // a relation message whose name is being looked up
  SteadyTime busy_window_{};
  std::size_t busy_bytes_ = 0;
  SteadyTime busy_until_{};
  SteadyTime quiet_until_{};
  bool stopped_early_ =
      false;  // there is more in the buffer than the last step was allowed to take

  // A reload of the rules: what is compared, since which attempt, and the answer.
  Requirements rules_to_check_;
  std::uint64_t rules_check_ = 0;
  std::uint64_t rules_check_attempt_ = 0;
  std::optional<Result<void>> rules_answer_;

  // Side work.
  CatalogueWorker worker_;
  SteadyTime looked_at_{}, look_at_{}, statistics_at_{}, heartbeat_at_{}, blockers_at_{}, barrier_at_{};
  bool looking_ = false, counting_ = false, beating_ = false, asking_blockers_ = false,
       polling_slot_ = false;
  std::string heartbeat_token_;
  std::uint64_t heartbeat_count_ = 0;
  std::uint64_t heartbeats_before_ = 0;  // this connection: what comes again of them is no news
  std::optional<SlotStatistics> statistics_;
  std::string catalogue_problem_;
  std::string heartbeat_problem_;
  bool told_catalogue_late_ = false;
  // Tables published anew while transactions were open that may have changed them before: they are
  // purged once more when all of those have ended.
  Xid barrier_{0};
  std::vector<std::string> barrier_tables_;
  bool barrier_is_expected_ = false;
};

}  // namespace evictd
