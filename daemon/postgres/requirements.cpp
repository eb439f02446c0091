#include "daemon/postgres/requirements.h"

namespace evictd {

Findings check_requirements(const Requirements&, const Facts&) { return {}; }
std::optional<Error> first_refusal(const Requirements&, const Facts&) { return std::nullopt; }

}  // namespace evictd
