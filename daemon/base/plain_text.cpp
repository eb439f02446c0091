#include "daemon/base/plain_text.h"

#include "mapping/utf8.h"

namespace evictd {
namespace {

bool steers(std::string_view character) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(character[i]); };
  if (character.size() == 2) return byte(0) == 0xc2 && byte(1) < 0xa0;  // C1
  if (character.size() != 3 || byte(0) != 0xe2) return false;
  if (byte(1) == 0x80) return byte(2) == 0x8e || byte(2) == 0x8f || (byte(2) >= 0xa8 && byte(2) <= 0xae);
  return byte(1) == 0x81 && byte(2) >= 0xa6 && byte(2) <= 0xa9;
}

}  // namespace

std::string plain_line(std::string_view text) {
  std::string line;
  line.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = utf8_length(text.substr(i));
    const auto byte = static_cast<unsigned char>(text[i]);
    if (length == 0) {
      line += '?';
      ++i;
      continue;
    }
    if (byte < 0x20 || byte == 0x7f) {
      line += ' ';
    } else if (steers(text.substr(i, length))) {
      line += '?';
    } else {
      line += text.substr(i, length);
    }
    i += length;
  }
  return line;
}

}  // namespace evictd
