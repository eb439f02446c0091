// An error as a value: what went wrong, what the caller should do next, and a hint for a person.
//
// Functions that can fail for reasons outside the program return tl::expected<T, Error>. Programmer
// errors use EVICTD_CHECK (check.h) and abort. Error texts follow one grammar: lower case, no final
// period, names in single quotes, "expected X, got Y"; configuration errors begin
// "file:line:column:". An error is either returned or logged, never both; only the pipeline and the
// commands log.
#pragma once

#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace evictd {

// What the receiver of the error should do next. Kinds follow actions, not origins.
enum class ErrorKind {
  kTransient,   // try the same thing again, with backoff
  kConnection,  // the connection is no longer usable: drop it, connect again with backoff
  kData,        // this change cannot be decoded or mapped: the documented policy decides
  kFatal,       // stop with exit code 1: a restart or a person must help
  kUsage,       // stop with exit code 2: the configuration or the command line must change
};

struct [[nodiscard]] Error {
  ErrorKind kind = ErrorKind::kFatal;
  std::string text;  // one line, no secrets and nothing of a row: pages without a login show it
  std::string hint;  // what to do about it; may be empty
  std::string detail = {};  // of one key, which may spell what its row holds: for the log and the console

  std::string whole_text() const { return detail.empty() ? text : text + " (" + detail + ")"; }

  // "text" or "text\nhint: hint", as a person reads it.
  std::string to_string() const { return hint.empty() ? whole_text() : whole_text() + "\nhint: " + hint; }

  // The same error seen from one level up: "prefix: text".
  Error within(std::string_view prefix) && {
    return Error{kind, std::string(prefix) + ": " + std::move(text), std::move(hint), std::move(detail)};
  }
};

template <typename T>
using Result = tl::expected<T, Error>;

inline tl::unexpected<Error> fail(ErrorKind kind, std::string text, std::string hint = {}) {
  return tl::unexpected<Error>(Error{kind, std::move(text), std::move(hint)});
}

}  // namespace evictd
