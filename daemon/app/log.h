// The log: one line per event on standard error, as text or as JSON. The only place that writes it;
// the pipeline and the commands decide what is worth a line. Safe from any thread. Never waits for whoever reads it:
// lines that find no room are dropped and counted, and a line says so once there is room again.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "daemon/base/clock.h"
#include "daemon/base/waiting.h"
#include "mapping/error.h"

namespace evictd {

enum class LogLevel : std::uint8_t { kDebug, kInfo, kWarning, kError };
enum class LogFormat : std::uint8_t { kText, kJson };

class Log {
 public:
  Log(LogLevel level, LogFormat format, int descriptor = 2);
  ~Log();

  void write(LogLevel level, std::string_view text, std::string_view hint = {});
  void debug(std::string_view text) { write(LogLevel::kDebug, text); }
  void info(std::string_view text) { write(LogLevel::kInfo, text); }
  void warning(std::string_view text, std::string_view hint = {}) {
    write(LogLevel::kWarning, text, hint);
  }
  void error(const Error& error) { write(LogLevel::kError, error.whole_text(), error.hint); }

  bool is_debug() const;

  // What found no room goes out as soon as there is some: the loop calls this in each of its turns, and comes back for
  // it when wait_for() says so.
  void flush();
  void wait_for(Waiting& waiting, SteadyTime now) const;
  std::uint64_t dropped_lines() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The part of a line that says what happened, as the two formats write it. One line, whatever is in
// `text`.
std::string log_message(LogFormat format, std::string_view text, std::string_view hint);

// Keeps a fault that repeats from filling the disk: the first line of a text passes at once, the
// same text again only after a pause that doubles from 5 s to 5 min; the line that passes says how
// many did not. Texts that differ in their numbers only ("retrying in 3 s") are the same. Bounded:
// remembers a fixed number.
class RepeatGuard {
 public:
  // The text to log, or nothing when this line is to be left out.
  std::optional<std::string> pass(std::string_view text, SteadyTime now);

 private:
  struct Seen {
    SteadyTime last_passed;
    SteadyTime last_seen;
    std::chrono::seconds pause;
    std::uint64_t left_out = 0;
  };
  std::unordered_map<std::string, Seen> seen_;
};

}  // namespace evictd
