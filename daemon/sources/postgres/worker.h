// The worker: the one side thread of the room. It runs jobs against the catalogue, one after the
// other, and hands their completions back to the loop thread, which wakes by a descriptor.
#pragma once

#include <functional>
#include <memory>

#include "daemon/sources/postgres/catalogue.h"
#include "daemon/base/waiting.h"

namespace evictd {

class CatalogueWorker {
 public:
  // Runs on the loop thread, from run_completions().
  using Completion = std::function<void()>;
  // Runs on the worker thread.
  using Job = std::function<Completion(Catalogue&)>;

  CatalogueWorker();
  // Waits for the job under way, but not for long: one that hangs on a dead network is left behind.
  ~CatalogueWorker();

  // At most kJobsMax wait; then the oldest is forgotten.
  void submit(Job job);
  void run_completions();
  void wait_for(Waiting& waiting) const;

  static constexpr std::size_t kJobsMax = 64;

 private:
  // Shared with the thread, which may outlive this object by one hanging job.
  struct Mailbox;
  std::shared_ptr<Mailbox> mailbox_;
};

}  // namespace evictd
