#include "daemon/app/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "daemon/base/json.h"

namespace evictd {
namespace {

constexpr std::size_t kTextsRemembered = 64;
constexpr std::chrono::seconds kPauseFirst{5};
constexpr std::chrono::seconds kPauseMax{300};

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

// Text from outside (a server's message) must not be able to begin a line of its own, nor steer a
// terminal.
std::string on_one_line(std::string_view text) {
  std::string line(text);
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  return line;
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
    std::string line = on_one_line(text);
    if (!hint.empty()) line += " (hint: " + on_one_line(hint) + ")";
    return line;
  }
  std::string fields = "\"message\":" + json_quoted(text);
  if (!hint.empty()) fields += ",\"hint\":" + json_quoted(hint);
  return fields;
}

struct Log::Impl {
  LogFormat format;
  std::shared_ptr<spdlog::logger> logger;  // spdlog's own way of holding one
};

Log::Log(LogLevel level, LogFormat format) : impl_(std::make_unique<Impl>()) {
  impl_->format = format;
  impl_->logger =
      std::make_shared<spdlog::logger>("evictd", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  impl_->logger->set_level(spdlog_level(level));
  impl_->logger->flush_on(spdlog::level::trace);
  impl_->logger->set_pattern(format == LogFormat::kText
                                 ? "%Y-%m-%dT%H:%M:%S.%eZ %-7l %v"
                                 : R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l",%v})",
                             spdlog::pattern_time_type::utc);
}

Log::~Log() = default;

void Log::write(LogLevel level, std::string_view text, std::string_view hint) {
  const spdlog::level::level_enum as_spdlog = spdlog_level(level);
  if (!impl_->logger->should_log(as_spdlog)) return;
  impl_->logger->log(as_spdlog, spdlog::string_view_t(log_message(impl_->format, text, hint)));
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
