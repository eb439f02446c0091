// Passwords that are not written in the configuration: read from a file, or printed by a command, asked for at every
// connect, so that one which rotates is always the newest. Asked in a short-lived thread: neither a slow file system nor a
// slow command stops the loop.
//
// A command is started without a shell, in a process group of its own that is killed when it takes too long or is no longer
// waited for. What it prints is a secret: it is in no error.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/base/secret.h"
#include "daemon/base/waiting.h"
#include "mapping/error.h"

namespace evictd {

// At most one of both is set.
struct CredentialSource {
  std::string file;                  // 'password_file'
  std::vector<std::string> command;  // 'password_command': a program, looked for in PATH, and its arguments
  std::chrono::milliseconds patience{10'000};

  bool is_set() const { return !file.empty() || !command.empty(); }
  // "password_file '/run/secrets/redis'", "password_command 'vault'": for messages; no arguments.
  std::string to_string() const;
};

struct Credential {
  Secret password;
  std::optional<SystemTime> expires;  // not known: it holds until it is refused
};

// The text of a file, or what a command printed: {"password": "...", "expires": ...}, the time as in RFC 3339 or in seconds
// since 1970; or else the password alone, on one line, of which the line's end is no part. The error quotes nothing.
Result<Credential> parse_credential(std::string_view text);

// Blocks until there is an answer, or for `patience` and a moment.
Result<Credential> ask_credential(const CredentialSource& source);

// The same beside a loop. One thread calls everything here.
class CredentialLookup {
 public:
  explicit CredentialLookup(const CredentialSource& source);
  ~CredentialLookup();  // a command under way is killed
  CredentialLookup(const CredentialLookup&) = delete;
  CredentialLookup& operator=(const CredentialLookup&) = delete;

  bool is_done() const;
  // REQUIRES: is_done().
  const Result<Credential>& answer() const;
  void wait_for(Waiting& waiting) const;

 private:
  struct State;
  std::shared_ptr<State> state_;  // shared with the thread
};

}  // namespace evictd
