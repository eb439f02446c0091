// A blocking try of the replication connection, for `check`: who is there, and does a logical
// message come back through a stream (on a temporary slot, gone with the connection).
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>

#include "daemon/sources/postgres/replication.h"

namespace evictd {

class StreamProbe {
 public:
  // Connects and identifies. The failure, or none.
  std::optional<PostgresFailure> connect(const Conninfo& conninfo,
                                         std::chrono::milliseconds patience);
  const SystemIdentity& identity() const { return stream_.identity(); }
  void pin_server(Conninfo& conninfo) const { stream_.connection().pin_server(conninfo); }

  enum class Outcome { kArrived, kSlotNotReady, kNotArrived, kFailed };
  // Streams from a temporary slot, calls `emit`, and waits for a message with `prefix` and
  // `content`.
  Outcome round_trip(const std::string& slot, const std::string& publication,
                     const std::string& prefix, const std::string& content,
                     const std::function<Result<void>()>& emit, std::chrono::milliseconds patience);
  const std::string& failure_text() const { return failure_text_; }

 private:
  // Turns the machine until `done` or the deadline. False at the deadline.
  bool turn(SteadyTime deadline, const std::function<bool()>& done);

  ReplicationStream stream_;
  std::string failure_text_;
};

}  // namespace evictd
