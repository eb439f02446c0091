#include "daemon/sources/kafka/dead_letters.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>

namespace evictd {
namespace {

std::string size_text(const std::optional<std::string_view>& bytes) {
  return bytes ? fmt::format("{}", bytes->size()) : "-";
}

// The file holds rows of the database: nobody else's to read.
bool append(const std::string& path, std::string_view text) {
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_CLOEXEC, S_IRUSR | S_IWUSR);
  if (file < 0) return false;
  const bool whole = ::write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  return ::close(file) == 0 && whole;
}

}  // namespace

void DeadLetters::keep(const KafkaRecord& record, const Error& error) {
  if (path_.empty()) return;
  std::string text = error.text;
  std::replace(text.begin(), text.end(), '\n', ' ');
  std::string letter = fmt::format(
      "evictd-dead-letter topic={} partition={} offset={} key_bytes={} value_bytes={} error={}\n",
      record.topic, record.partition, record.offset, size_text(record.key), size_text(record.value),
      text);
  letter += record.key.value_or("");
  letter += record.value.value_or("");
  if (letter.size() >= half_) letter.resize(half_ - 1);
  letter += '\n';

  std::error_code failed;
  const auto size = std::filesystem::file_size(path_, failed);
  if (!failed && size + letter.size() > half_) {
    std::filesystem::rename(path_, path_ + ".1", failed);
    if (failed) {  // better without this one than beyond the limit
      ++lost_;
      return;
    }
  }
  if (!append(path_, letter)) ++lost_;
}

}  // namespace evictd
