// What a failure of PostgreSQL means for us and for a person: its kind, one line of text, a hint.
// Pure.
#pragma once

#include <string>
#include <string_view>

#include "daemon/sources/postgres/connection.h"
#include "mapping/error.h"

namespace evictd {

struct FailureContext {
  std::string server;  // "localhost:5432"
  std::string role;
  std::string slot;
  std::string database = {};
  std::string credential = {};  // CredentialSource::to_string(); empty: none is asked
};

// One line for pages without a login. What the server says of a value (a cast that fails, a function that raises) may spell it: only
// its own log has that then.
std::string text_without_values(const PostgresFailure& failure);

// A text that has no place in the session's encoding.
bool is_unreadable_text(std::string_view sqlstate);

// kUsage: the configuration or the server's set-up must change. kData: the stream stops at the same
// place each time until a person helps. Everything else passes by itself.
// What helps when a server has no connection left to give; empty: that is not what `sqlstate` says.
std::string_view hint_when_full(std::string_view sqlstate);

Error explain_failure(const PostgresFailure& failure, const FailureContext& context);

}  // namespace evictd
