#include "daemon/sinks/redis/topology/slots.h"

#include <array>

namespace evictd {
namespace {

// CRC16 with the polynomial 0x1021, from 0, as Redis Cluster has it.
constexpr std::array<std::uint16_t, 256> kCrcOf = [] {
  std::array<std::uint16_t, 256> table{};
  for (unsigned byte = 0; byte < 256; ++byte) {
    unsigned crc = byte << 8;
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 0x8000) != 0 ? ((crc << 1) ^ 0x1021) & 0xffff : crc << 1;
    table[byte] = static_cast<std::uint16_t>(crc);
  }
  return table;
}();

std::uint16_t crc16(std::string_view text) {
  std::uint16_t crc = 0;
  for (const char c : text) {
    crc = static_cast<std::uint16_t>((crc << 8) ^ kCrcOf[(crc >> 8) ^ static_cast<unsigned char>(c)]);
  }
  return crc;
}

// Names of four letters whose low four bits are free: their checksums are XORs of those of single bits. kBasis holds which
// bits of the letters change one bit of the slot and no other.
constexpr Slot kSlotOfNone = 13881;  // '@@@@'
constexpr std::uint16_t kBasis[] = {6906, 1773, 10107, 4364, 10897, 14784, 8035, 10111, 4356, 8712, 7146, 1229, 9019, 6540};

}  // namespace

Slot slot_of(std::string_view key) {
  if (const std::size_t open = key.find('{'); open != std::string_view::npos) {
    const std::size_t close = key.find('}', open + 1);
    if (close != std::string_view::npos && close > open + 1) key = key.substr(open + 1, close - open - 1);
  }
  return static_cast<Slot>(crc16(key) % kSlots);
}

std::string slot_tag(Slot slot) {
  unsigned letters = 0;
  const unsigned wanted = slot ^ kSlotOfNone;
  for (unsigned bit = 0; bit < 14; ++bit) {
    if ((wanted >> bit & 1) != 0) letters ^= kBasis[bit];
  }
  std::string tag(4, '@');
  for (unsigned i = 0; i < 4; ++i) tag[i] = static_cast<char>('@' + (letters >> (4 * (3 - i)) & 15));
  return tag;
}

std::string purged_marker(Slot slot) { return "evictd:purged:{" + slot_tag(slot) + "}"; }

}  // namespace evictd
