// A thread beside the loop, for work that waits for servers: it ends with its owner, or is left behind when it hangs in a call
// that nobody can end. So what it uses is shared with it, and outlives the owner.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

namespace evictd {

// What owner and thread share; what derives from it is under the mutex too, where it does not say otherwise.
struct SideState {
  mutable std::mutex mutex;
  std::condition_variable changed;
  bool stopping = false;  // the thread is to return
  bool ended = false;     // it has

  // Of the thread. False: stop.
  bool sleep(std::chrono::milliseconds time) {
    std::unique_lock lock(mutex);
    changed.wait_for(lock, time, [this] { return stopping; });
    return !stopping;
  }
};

class SideThread {
 public:
  // `body` runs in the thread and holds nothing but `state`.
  SideThread(std::shared_ptr<SideState> state, std::function<void()> body)
      : state_(std::move(state)), thread_([state = state_, body = std::move(body)] {
          body();
          const std::lock_guard lock(state->mutex);
          state->ended = true;
          state->changed.notify_all();
        }) {}
  SideThread(const SideThread&) = delete;
  SideThread& operator=(const SideThread&) = delete;

  // Waits for `kFarewell` at most.
  ~SideThread() {
    bool ended = false;
    {
      std::unique_lock lock(state_->mutex);
      state_->stopping = true;
      state_->changed.notify_all();
      ended = state_->changed.wait_for(lock, kFarewell, [this] { return state_->ended; });
    }
    ended ? thread_.join() : thread_.detach();
  }

 private:
  static constexpr std::chrono::seconds kFarewell{2};

  std::shared_ptr<SideState> state_;
  std::thread thread_;
};

}  // namespace evictd
