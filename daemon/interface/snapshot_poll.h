// Snapshots of a PostgreSQL that is not the stream itself: which transactions its sessions can see now.
// The Kafka source asks one, when it is given one, so that settle and renew know when a commit became
// visible (design, section 4). Implemented by whoever wires the parts over the postgres room.
//
// All calls come from the loop thread; nothing blocks; it connects and reconnects by itself.
#pragma once

#include <optional>
#include <string>

#include "daemon/base/clock.h"
#include "daemon/interface/version.h"
#include "daemon/base/waiting.h"

namespace evictd {

class SnapshotPoll {
 public:
  virtual ~SnapshotPoll() = default;
  virtual void start(Now now) = 0;
  virtual void step(Now now) = 0;
  virtual void wait_for(Waiting& waiting) = 0;
  // Asks for a snapshot taken from now on. A request while one is under way is answered by a later one.
  virtual void request() = 0;
  // The newest answer, once.
  virtual std::optional<Snapshot> take() = 0;
  // Empty while connected; otherwise why not, for the status.
  virtual std::string problem() const = 0;
};

}  // namespace evictd
