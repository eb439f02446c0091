// One thread for the few calls of librdkafka that block. A job runs there and returns what is to be
// done with its result, which then runs on the loop thread, inside finish().
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
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
  ~HelperThread();  // waits for the job under way; those not begun are dropped
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
  int descriptor() const { return descriptor_; }

 private:
  void work(const std::stop_token& stop);

  int descriptor_;
  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable_any wake_;
  std::deque<Job> jobs_;
  std::deque<Question> questions_;  // of the job under way and of jobs_, oldest first
  std::deque<Completion> completions_;
  std::jthread thread_;  // started by the first job
};

}  // namespace evictd
