// While our slot is being created: whom it waits for, and what ends that. A new slot begins when every transaction has ended that was open
// when it was asked for. Pure: the caller asks the catalogue.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "daemon/sources/postgres/catalogue.h"
#include "daemon/sources/postgres/postgres_source.h"
#include "daemon/sources/postgres/recurring.h"

namespace evictd {

class SlotWait {
 public:
  static constexpr std::chrono::seconds kInterval{5};

  // An answer that is not there yet never comes.
  void connecting() { question_.forget(); }
  // The creation was asked for.
  void creating(SteadyTime now);

  SteadyTime due() const { return question_.due(); }
  // -> whether to ask for the blockers now.
  bool asks(SteadyTime now) { return question_.begins(now, kInterval); }
  // An answer came, of whatever. Then saw(), where it has blockers and the slot is still being created.
  void answered() { question_.answered(); }
  // -> what to tell; the oldest is the first.
  std::optional<PostgresNotice> saw(const std::string& slot, const std::vector<Blocker>& blockers);

  // Why readiness is refused; empty: nobody is known to be in the way.
  const std::string& problem() const { return problem_; }

 private:
  Recurring question_;
  std::string problem_;
};

}  // namespace evictd
