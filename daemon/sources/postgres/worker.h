// The worker: the one side thread of the room. It runs jobs against the catalogue, one after the
// other, and hands their completions back to the loop thread, which wakes by a descriptor. Every job
// is answered: one that hangs ends by the deadlines of the catalogue, and one that waited behind it for
// too long is not begun any more.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>

#include "daemon/sources/postgres/catalogue.h"
#include "daemon/base/waiting.h"

namespace evictd {

class CatalogueWorker {
 public:
  // Runs on the loop thread, from run_completions().
  using Completion = std::function<void()>;
  // Runs on the worker thread.
  using Job = std::function<Completion(Catalogue&)>;

  // `answer_max`: see Catalogue.
  explicit CatalogueWorker(std::chrono::milliseconds answer_max);
  // Waits for the job under way, but not for long: one that hangs on a dead network is left behind.
  ~CatalogueWorker();

  // Runs on the loop thread, with what kept a job from being begun: others, for more than kWaitMax or kJobsMax of them, or a
  // machine without a thread for it.
  using Late = std::function<void(const Error&)>;

  void submit(Job job, Late late);
  void run_completions();
  void wait_for(Waiting& waiting) const;

  // When the oldest job that has no answer yet was submitted.
  std::optional<SteadyTime> waiting_since() const;

  static constexpr std::size_t kJobsMax = 64;
  static constexpr std::chrono::seconds kWaitMax{20};

 private:
  // Shared with the thread, which may outlive this object by one hanging job.
  struct Mailbox;
  std::shared_ptr<Mailbox> mailbox_;
};

}  // namespace evictd
