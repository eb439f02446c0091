#include "daemon/sources/kafka/helper_thread.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>
#include <utility>

#include "mapping/check.h"

namespace evictd {

HelperThread::HelperThread() : descriptor_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  EVICTD_CHECK(descriptor_ >= 0);
}

HelperThread::~HelperThread() {
  if (thread_.joinable()) {
    thread_.request_stop();
    thread_.join();
  }
  ::close(descriptor_);
}

void HelperThread::run(std::string what, Job job) {
  {
    const std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
    questions_.push_back({std::move(what), read_clocks().steady});
  }
  if (!thread_.joinable()) {
    thread_ = std::jthread([this](const std::stop_token& stop) { work(stop); });
  }
  wake_.notify_one();
}

std::optional<HelperThread::Question> HelperThread::oldest() const {
  const std::lock_guard lock(mutex_);
  return questions_.empty() ? std::nullopt : std::optional(questions_.front());
}

void HelperThread::finish() {
  std::uint64_t count = 0;
  [[maybe_unused]] const auto bytes = ::read(descriptor_, &count, sizeof count);
  for (;;) {
    Completion completion;
    {
      const std::lock_guard lock(mutex_);
      if (completions_.empty()) return;
      completion = std::move(completions_.front());
      completions_.pop_front();
    }
    completion();
  }
}

void HelperThread::work(const std::stop_token& stop) {
  for (;;) {
    Job job;
    {
      std::unique_lock lock(mutex_);
      if (!wake_.wait(lock, stop, [this] { return !jobs_.empty(); }) || stop.stop_requested())
        return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    Completion completion = job();
    {
      const std::lock_guard lock(mutex_);
      completions_.push_back(std::move(completion));
      questions_.pop_front();
    }
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto bytes = ::write(descriptor_, &one, sizeof one);
  }
}

}  // namespace evictd
