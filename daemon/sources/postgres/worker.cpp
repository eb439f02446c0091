#include "daemon/sources/postgres/worker.h"

#include <fmt/core.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "daemon/base/shortage.h"
#include "mapping/check.h"

namespace evictd {
namespace {

constexpr std::chrono::seconds kStopPatience{1};
// How long a session is kept for the next job. Some come every second (LaterPrimary).
constexpr std::chrono::seconds kIdleSession{2};
const Error kBehindOthers{ErrorKind::kConnection, "PostgreSQL does not answer questions asked before", {}};

}  // namespace

struct CatalogueWorker::Mailbox {
  std::mutex mutex;  // guards everything below but what is constant
  std::condition_variable changed;
  struct Entry {
    Job job;
    Late late;
    SteadyTime submitted;
  };
  std::deque<Entry> jobs;
  std::optional<SteadyTime> running_since;  // when the job under way was submitted
  std::deque<Completion> completions;
  bool stopping = false;
  bool started = false;
  bool finished = false;
  const std::chrono::milliseconds answer_max;
  int event = -1;

  explicit Mailbox(std::chrono::milliseconds max) : answer_max(max), event(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) { EVICTD_CHECK(event >= 0); }
  ~Mailbox() { ::close(event); }

  // REQUIRES: the mutex is held.
  void complete(Completion completion) {
    if (completion) completions.push_back(std::move(completion));
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(event, &one, sizeof(one));
  }

  // REQUIRES: the mutex is held.
  void refuse(Entry entry, Error why) {
    complete([late = std::move(entry.late), why = std::move(why)] { late(why); });
  }

  void run() {
    Catalogue catalogue{Conninfo{}, answer_max};
    std::unique_lock lock(mutex);
    while (true) {
      const auto has_work = [&] { return stopping || !jobs.empty(); };
      if (!changed.wait_for(lock, kIdleSession, has_work)) {
        lock.unlock();
        catalogue.disconnect();
        lock.lock();
        changed.wait(lock, has_work);
      }
      if (stopping) break;
      Entry entry = std::move(jobs.front());
      jobs.pop_front();
      if (std::chrono::steady_clock::now() - entry.submitted > kWaitMax) {
        refuse(std::move(entry), kBehindOthers);
        continue;
      }
      running_since = entry.submitted;
      lock.unlock();
      Completion completion = entry.job(catalogue);
      entry.job = nullptr;
      lock.lock();
      running_since.reset();
      complete(std::move(completion));
    }
    finished = true;
    changed.notify_all();
  }
};

CatalogueWorker::CatalogueWorker(std::chrono::milliseconds answer_max)
    : mailbox_(std::make_shared<Mailbox>(answer_max)) {}

CatalogueWorker::~CatalogueWorker() {
  std::unique_lock lock(mailbox_->mutex);
  mailbox_->stopping = true;
  mailbox_->changed.notify_all();
  if (!mailbox_->started) return;
  mailbox_->changed.wait_for(lock, kStopPatience, [&] { return mailbox_->finished; });
}

void CatalogueWorker::submit(Job job, Late late) {
  const std::lock_guard lock(mailbox_->mutex);
  // Only abandoned attempts leave jobs behind while one hangs: the oldest is of no use to anybody.
  if (mailbox_->jobs.size() >= kJobsMax) {
    mailbox_->refuse(std::move(mailbox_->jobs.front()), kBehindOthers);
    mailbox_->jobs.pop_front();
  }
  mailbox_->jobs.push_back({std::move(job), std::move(late), std::chrono::steady_clock::now()});
  if (!mailbox_->started) {
    try {
      std::thread([mailbox = mailbox_] { mailbox->run(); }).detach();
      mailbox_->started = true;
    } catch (const std::system_error& error) {
      // Threads are used up: a question without an answer, to be asked again like any other.
      mailbox_->refuse(std::move(mailbox_->jobs.back()),
                       {ErrorKind::kConnection, fmt::format("no thread to ask PostgreSQL's catalogue: {}", error.what()), std::string(kThreadsHint)});
      mailbox_->jobs.pop_back();
    }
  }
  mailbox_->changed.notify_all();
}

void CatalogueWorker::run_completions() {
  std::deque<Completion> completions;
  {
    const std::lock_guard lock(mailbox_->mutex);
    if (mailbox_->completions.empty()) return;
    completions.swap(mailbox_->completions);
    std::uint64_t count = 0;
    [[maybe_unused]] const auto read = ::read(mailbox_->event, &count, sizeof(count));
  }
  for (const Completion& completion : completions) completion();
}

std::optional<SteadyTime> CatalogueWorker::waiting_since() const {
  const std::lock_guard lock(mailbox_->mutex);
  if (mailbox_->running_since) return mailbox_->running_since;
  if (mailbox_->jobs.empty()) return std::nullopt;
  return mailbox_->jobs.front().submitted;
}

void CatalogueWorker::wait_for(Waiting& waiting) const {
  waiting.descriptors.push_back(pollfd{mailbox_->event, POLLIN, 0});
}

}  // namespace evictd
