#include "daemon/kafka/dead_letters.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>

namespace evictd {
namespace {

std::string size_text(const std::optional<std::string_view>& bytes) {
  return bytes ? fmt::format("{}", bytes->size()) : "-";
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
  if (!failed && size + letter.size() > half_) std::filesystem::rename(path_, path_ + ".1", failed);
  std::ofstream file(path_, std::ios::binary | std::ios::app);
  file.write(letter.data(), static_cast<std::streamsize>(letter.size()));
  file.close();
  if (!file) ++lost_;
}

}  // namespace evictd
