// Snapshots: a plain connection that answers "which transactions can a session see now". Beside the
// stream it is also the early warning of a server that shuts down: a fast shutdown ends ordinary
// sessions first and then waits for the replication streams. A smart one tells nobody, and waits for
// ordinary sessions to leave by themselves: this one does, once it learns of it and is not needed (G7).
// An answer that does not come is asked for again on a new connection.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "daemon/sources/postgres/connection.h"
#include "daemon/sources/postgres/lsn.h"
#include "daemon/interface/version.h"

namespace evictd {

class Snapshots {
 public:
  // Connects and reconnects by itself from now on.
  void start(const Conninfo& conninfo, Now now);
  void stop();

  void step(Now now);
  void wait_for(Waiting& waiting) const;

  // Asks for a snapshot taken from now on and returns its number. While one is under way, a later
  // one is taken.
  std::uint64_t request() {
    is_requested_ = true;
    return sent_ + 1;
  }
  // A request waits to be sent; the next step() does.
  bool has_unsent_request() const { return is_requested_ && !under_way_; }
  struct Answer {
    std::uint64_t number = 0;
    Snapshot snapshot;
    Lsn wal_end;  // of the server, read after the snapshot
  };
  // The newest answer, once.
  std::optional<Answer> take();

  // A session could not be made elsewhere: finds out with one of our own whether the server is shutting down.
  void suspect_shutdown(Now now);

  // Since when the server has been refusing sessions; none while it accepts them.
  std::optional<SteadyTime> refused_since() const { return refused_since_; }
  // Empty while answers come; otherwise why not.
  const std::string& problem() const { return problem_; }

 private:
  void lost(Now now);
  void watch_answer(Now now);
  void step_probe(Now now);
  bool may_leave(Now now) const;
  void read_answer(const PostgresConnection::Answer& answer);

  PostgresConnection connection_;
  PostgresConnection probe_;
  bool is_shutting_down_ = false;  // as the probe saw it; ours may still be open
  SteadyTime used_at_{};
  Conninfo conninfo_;
  bool started_ = false;
  bool prepared_ = false;
  bool is_requested_ = false;  // since the one under way was sent
  bool under_way_ = false;
  SteadyTime asked_at_{};  // what the connection is busy with
  std::uint64_t sent_ = 0;
  std::optional<Answer> answer_;
  std::optional<SteadyTime> refused_since_;
  std::string problem_ = "not connected yet";
  SteadyTime retry_at_{};
  std::chrono::milliseconds backoff_{0};
};

}  // namespace evictd
