// While another process holds the slot: waits, and says who it is.
#include <fmt/format.h>

#include "daemon/sources/postgres/postgres_source_impl.h"

namespace evictd {
namespace {

constexpr std::chrono::seconds kStandbyInterval{1};

}  // namespace

void PostgresSource::become_standby(const std::string& holder) {
  const bool was_streaming = is_streaming();
  stream_.close();
  snapshots_.stop();
  lookups_.stop();
  ++attempt_;
  polling_slot_ = false;
  state_ = State::kStandby;
  retries_.due_at(now_.steady + kStandbyInterval);
  if (was_streaming) {
    handler_->on_disconnected(Error{ErrorKind::kTransient, "another process took the slot", {}});
  }
  retries_.told_other();
  handler_->on_standby(fmt::format("slot '{}' is in use by {}", slot_, holder));
}

// For ever: a walsender of a process that died can hold the slot for wal_sender_timeout, a peer for
// years.
void PostgresSource::poll_standby() {
  if (now_.steady < retries_.due() || polling_slot_) return;
  polling_slot_ = true;
  ask([slot = slot_](Catalogue& side) { return side.read_slot(slot); },
      [this](Result<SlotFacts> answer) {
        polling_slot_ = false;
        if (state_ != State::kStandby) return;
        retries_.due_at(now_.steady + kStandbyInterval);
        if (answer && answer->exists && answer->is_active) {
          handler_->on_standby(fmt::format("slot '{}' is in use by {}", slot_, answer->holder));
          return;
        }
        state_ = State::kWaiting;
        retries_.due_at(now_.steady);
      });
}

}  // namespace evictd
