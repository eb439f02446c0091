// One thread for the few calls of librdkafka that block. A job runs there and returns what is to be
// done with its result, which then runs on the loop thread, inside finish().
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "daemon/base/clock.h"

namespace evictd {

class HelperThread {
 public:
  using Completion = std::function<void()>;
  using Job = std::function<Completion()>;

  HelperThread();
  // Waits for the job under way, for kPatience at most: one that hangs longer is left behind with its thread, so it may
  // use only what it holds itself. Jobs not begun are dropped, and completions not due yet.
  ~HelperThread();
  HelperThread(const HelperThread&) = delete;
  HelperThread& operator=(const HelperThread&) = delete;

  // `what` the job asks, for a person who waits for it.
  void run(std::string what, Job job);
  // Loop thread: runs the completions that are due.
  void finish();
  // The job that waits or runs for the longest; none: all are done.
  struct Question {
    std::string what;
    SteadyTime since{};
  };
  std::optional<Question> oldest() const;
  // Readable when there is one.
  int descriptor() const;

  // Longer than any call that is bounded.
  static constexpr std::chrono::seconds kPatience{15};

 private:
  struct Shared;
  void start();
  static void work(const std::shared_ptr<Shared>& shared);

  std::shared_ptr<Shared> shared_;
  std::thread thread_;  // started by the first job
};

}  // namespace evictd
