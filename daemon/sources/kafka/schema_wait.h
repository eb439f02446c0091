// The first record waits for its schema: when the registry is asked, and what is told meanwhile. Nothing is skipped, and nothing behind
// the record acknowledged. Pure: the caller asks the registry.
//
// Owned by the source, which is on the loop thread. Bounds: one question at a time; after an answer without the schema the registry is
// left alone for 500 ms, doubled up to 3 s.
#pragma once

#include <chrono>
#include <string>

#include "daemon/base/clock.h"

namespace evictd {

class SchemaWait {
 public:
  // A question is under way, or the registry is left alone: nothing is read.
  bool waits() const { return is_asked_ || ask_at_ != SteadyTime::max(); }
  // When the registry may be asked again; max(): nothing to wake for.
  SteadyTime due() const { return ask_at_; }
  // The time goes on.
  void step(SteadyTime now) {
    if (now >= ask_at_) ask_at_ = SteadyTime::max();
  }

  // The first record's schema is missing. -> whether to ask the registry now; then one of the next two follows.
  bool asks();
  void found();
  void failed(std::string problem, SteadyTime now);

  // There is no such record any more, or it has what it needs. A question under way is waited for all the same, but that it failed is
  // nobody's problem.
  void forget();

  // Why the first record waits, of the last answer; empty: it does not, or for the first answer.
  const std::string& problem() const { return problem_; }

 private:
  std::string problem_;
  bool is_asked_ = false;
  bool is_forgotten_ = false;  // the record of the question under way
  SteadyTime ask_at_ = SteadyTime::max();
  std::chrono::milliseconds backoff_{0};
};

}  // namespace evictd
