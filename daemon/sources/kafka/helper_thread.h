// One thread for the few calls of librdkafka that block. A job runs there and returns what is to be
// done with its result, which then runs on the loop thread, inside finish().
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace evictd {

class HelperThread {
 public:
  using Completion = std::function<void()>;
  using Job = std::function<Completion()>;

  HelperThread();
  ~HelperThread();  // waits for the job under way; those not begun are dropped
  HelperThread(const HelperThread&) = delete;
  HelperThread& operator=(const HelperThread&) = delete;

  void run(Job job);
  // Loop thread: runs the completions that are due.
  void finish();
  // Readable when there is one.
  int descriptor() const { return descriptor_; }

 private:
  void work(const std::stop_token& stop);

  int descriptor_;
  std::mutex mutex_;  // guards jobs_ and completions_
  std::condition_variable_any wake_;
  std::deque<Job> jobs_;
  std::deque<Completion> completions_;
  std::jthread thread_;  // started by the first job
};

}  // namespace evictd
