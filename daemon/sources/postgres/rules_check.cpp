#include "daemon/sources/postgres/rules_check.h"

#include <utility>

#include "daemon/sources/postgres/requirements.h"

namespace evictd {

std::uint64_t RulesCheck::begins(Requirements requirements, std::uint64_t attempt) {
  requirements_ = std::move(requirements);
  attempt_ = attempt;
  answer_.reset();
  return ++number_;
}

std::optional<Requirements> RulesCheck::compare(std::uint64_t number, const Result<Facts>& answer) {
  if (number != number_) return std::nullopt;  // another reload came
  if (!answer) {
    answer_ = fail(ErrorKind::kConnection, "cannot compare the rules with the tables: " + answer.error().text,
                   "they are compared once more in a moment");
    return std::nullopt;
  }
  if (auto refusal = first_refusal(requirements_, *answer)) {
    answer_ = tl::unexpected<Error>(std::move(*refusal));
    return std::nullopt;
  }
  answer_ = Result<void>();
  return std::move(requirements_);
}

std::optional<Result<void>> RulesCheck::take(bool can_answer, std::uint64_t attempt) {
  if (!answer_ && (!can_answer || attempt_ != attempt)) {
    ++number_;
    answer_ = fail(ErrorKind::kConnection, "cannot compare the rules with the tables: PostgreSQL is not connected",
                   "they are compared as soon as it is");
  }
  return std::exchange(answer_, std::nullopt);
}

}  // namespace evictd
