#include "daemon/sources/kafka/helper_thread.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <system_error>
#include <utility>

#include "mapping/check.h"

namespace evictd {

// Of the loop's thread and the helper's; lives as long as the later of them.
struct HelperThread::Shared {
  Shared() : descriptor(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) { EVICTD_CHECK(descriptor >= 0); }
  ~Shared() { ::close(descriptor); }

  const int descriptor;
  std::mutex mutex;  // guards what follows
  std::condition_variable changed;
  bool stopping = false;
  bool has_ended = false;
  std::deque<Job> jobs;
  std::deque<Question> questions;  // of the job under way and of jobs, oldest first
  std::deque<Completion> completions;
};

HelperThread::HelperThread() : shared_(std::make_shared<Shared>()) {}

HelperThread::~HelperThread() {
  if (!thread_.joinable()) return;
  std::unique_lock lock(shared_->mutex);
  shared_->stopping = true;
  shared_->jobs.clear();
  shared_->changed.notify_all();
  const bool has_ended = shared_->changed.wait_for(lock, kPatience, [this] { return shared_->has_ended; });
  lock.unlock();
  if (has_ended) {
    thread_.join();
  } else {
    thread_.detach();
  }
}

int HelperThread::descriptor() const { return shared_->descriptor; }

void HelperThread::run(std::string what, Job job) {
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->jobs.push_back(std::move(job));
    shared_->questions.push_back({std::move(what), read_clocks().steady});
  }
  start();
  shared_->changed.notify_all();
}

void HelperThread::start() {
  if (thread_.joinable()) return;
  try {
    thread_ = std::thread([shared = shared_] { work(shared); });
  } catch (const std::system_error&) {
    // Threads are used up: the jobs wait, and finish() tries again.
  }
}

std::optional<HelperThread::Question> HelperThread::oldest() const {
  const std::lock_guard lock(shared_->mutex);
  return shared_->questions.empty() ? std::nullopt : std::optional(shared_->questions.front());
}

void HelperThread::finish() {
  if (oldest()) start();
  std::uint64_t count = 0;
  [[maybe_unused]] const auto bytes = ::read(shared_->descriptor, &count, sizeof count);
  for (;;) {
    Completion completion;
    {
      const std::lock_guard lock(shared_->mutex);
      if (shared_->completions.empty()) return;
      completion = std::move(shared_->completions.front());
      shared_->completions.pop_front();
    }
    completion();
  }
}

void HelperThread::work(const std::shared_ptr<Shared>& shared) {
  std::unique_lock lock(shared->mutex);
  for (;;) {
    shared->changed.wait(lock, [&] { return shared->stopping || !shared->jobs.empty(); });
    if (shared->stopping) break;
    Job job = std::move(shared->jobs.front());
    shared->jobs.pop_front();
    lock.unlock();
    Completion completion = job();
    job = nullptr;  // what it holds may block as it goes
    lock.lock();
    shared->questions.pop_front();
    if (shared->stopping) break;
    shared->completions.push_back(std::move(completion));
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto bytes = ::write(shared->descriptor, &one, sizeof one);
  }
  shared->has_ended = true;
  shared->changed.notify_all();
}

}  // namespace evictd
