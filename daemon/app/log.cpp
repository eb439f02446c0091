#include "daemon/app/log.h"

#include <fmt/core.h>

#include <algorithm>
#include <mutex>
#include <thread>

#include "daemon/app/line_writer.h"
#include "daemon/app/status.h"
#include "daemon/base/json.h"
#include "daemon/base/plain_text.h"

namespace evictd {
namespace {

constexpr std::size_t kTextsRemembered = 64;
constexpr std::chrono::seconds kPauseFirst{5};
constexpr std::chrono::seconds kPauseMax{300};

// What a log that nobody reads costs the end of the process.
constexpr std::chrono::milliseconds kLastPatience{200};
// How often what found no room is tried again.
constexpr std::chrono::milliseconds kRetryPause{100};

std::string_view level_name(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarning:
      return "warning";
    case LogLevel::kError:
      return "error";
  }
  return "error";
}

std::string line_of(LogLevel level, LogFormat format, std::string_view text, std::string_view hint) {
  const std::string time = time_text(read_clocks().system);
  const std::string message = log_message(format, text, hint);
  return format == LogFormat::kText
             ? fmt::format("{} {:<7} {}\n", time, level_name(level), message)
             : fmt::format("{{\"time\":\"{}\",\"level\":\"{}\",{}}}\n", time, level_name(level), message);
}

std::string without_numbers(std::string_view text) {
  std::string key;
  for (const char c : text) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit) {
      key += c;
    } else if (key.empty() || key.back() != '#') {
      key += '#';
    }
  }
  return key;
}

}  // namespace

std::string log_message(LogFormat format, std::string_view text, std::string_view hint) {
  if (format == LogFormat::kText) {
    // Text from outside must not be able to begin a line of its own, nor steer a terminal.
    std::string line = plain_line(text);
    if (!hint.empty()) line += " (hint: " + plain_line(hint) + ")";
    return line;
  }
  std::string fields = "\"message\":" + json_quoted(text);
  if (!hint.empty()) fields += ",\"hint\":" + json_quoted(hint);
  return fields;
}

struct Log::Impl {
  LogLevel level;
  LogFormat format;
  mutable std::mutex mutex;  // guards the writer
  LineWriter writer;

  void flush() {
    writer.flush();
    if (const std::uint64_t dropped = writer.take_dropped(); dropped > 0) {
      writer.write(line_of(LogLevel::kWarning, format,
                           fmt::format("{} lines of the log were dropped: nobody read them in time", dropped), ""));
    }
  }
};

Log::Log(LogLevel level, LogFormat format, int descriptor)
    : impl_(new Impl{level, format, {}, LineWriter(descriptor)}) {}

Log::~Log() {
  for (auto waited = std::chrono::milliseconds(0); waited < kLastPatience; waited += kLastPatience / 20) {
    flush();
    if (!impl_->writer.has_backlog()) return;
    std::this_thread::sleep_for(kLastPatience / 20);
  }
}

void Log::write(LogLevel level, std::string_view text, std::string_view hint) {
  if (level < impl_->level) return;
  const std::string line = line_of(level, impl_->format, text, hint);
  const std::lock_guard lock(impl_->mutex);
  impl_->flush();
  impl_->writer.write(line);
}

bool Log::is_debug() const { return impl_->level == LogLevel::kDebug; }

void Log::flush() {
  const std::lock_guard lock(impl_->mutex);
  impl_->flush();
}

void Log::wait_for(Waiting& waiting, SteadyTime now) const {
  const std::lock_guard lock(impl_->mutex);
  if (impl_->writer.has_backlog()) waiting.wake_at(now + kRetryPause);
}

std::uint64_t Log::dropped_lines() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->writer.dropped();
}

std::optional<std::string> RepeatGuard::pass(std::string_view text, SteadyTime now) {
  std::string key = without_numbers(text);
  auto found = seen_.find(key);
  if (found == seen_.end()) {
    if (seen_.size() >= kTextsRemembered) {
      seen_.erase(std::min_element(seen_.begin(), seen_.end(), [](const auto& a, const auto& b) {
        return a.second.last_seen < b.second.last_seen;
      }));
    }
    seen_.emplace(std::move(key), Seen{now, now, kPauseFirst, 0});
    return std::string(text);
  }
  Seen& seen = found->second;
  seen.last_seen = now;
  if (now - seen.last_passed < seen.pause) {
    ++seen.left_out;
    return std::nullopt;
  }
  // Quiet for long: this is news again.
  if (now - seen.last_passed > 2 * kPauseMax) seen.pause = kPauseFirst;
  std::string line(text);
  if (seen.left_out > 0) line += fmt::format(" (and {} times before)", seen.left_out);
  seen.last_passed = now;
  seen.left_out = 0;
  seen.pause = std::min(seen.pause * 2, kPauseMax);
  return line;
}

}  // namespace evictd
