// A reload of the rules: what is compared with the tables, and what the answer is. One at a time; a later one takes the place of an
// earlier. Pure: the caller reads the catalogue.
#pragma once

#include <cstdint>
#include <optional>

#include "daemon/sources/postgres/catalogue.h"
#include "daemon/sources/postgres/postgres_source.h"
#include "mapping/error.h"

namespace evictd {

class RulesCheck {
 public:
  // `attempt`: to connect, at which the catalogue is asked. -> the number of this comparison.
  std::uint64_t begins(Requirements requirements, std::uint64_t attempt);
  // The tables, as they are now. -> the requirements, where they can be met: they are what is followed from now on.
  std::optional<Requirements> compare(std::uint64_t number, const Result<Facts>& answer);
  // The answer, once (Source::take_rules_check). A connection that is lost meanwhile is an answer too: somebody waits for one.
  // `can_answer`: the catalogue may be asked now, at this attempt.
  std::optional<Result<void>> take(bool can_answer, std::uint64_t attempt);

 private:
  Requirements requirements_;
  std::uint64_t number_ = 0;
  std::uint64_t attempt_ = 0;
  std::optional<Result<void>> answer_;
};

}  // namespace evictd
