// Touched: which batch touched a key last, remembered loosely. Lets "a key invalidated many times within the
// window settle once": the settle of an earlier touch is left to that of a later one.
//
// A lossy table of fixed size: a forgotten entry costs an extra settle, never a missing one, because the
// caller compares the key's text with the later batch's before it believes an entry.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

namespace evictd {

struct Work;

class Touched {
 public:
  struct Entry {
    std::uint64_t hash = 0;
    std::uint64_t work = 0;  // Work::id, 0: none
    std::uint32_t part = 0;
    std::uint32_t item = 0;
  };

  Touched() : entries_(kEntries) {}

  static std::uint64_t hash(std::string_view text) { return std::hash<std::string_view>{}(text); }

  void note(std::uint64_t hash, std::uint64_t work, std::uint32_t part, std::uint32_t item) {
    entries_[hash & (kEntries - 1)] = {hash, work, part, item};
  }
  // The entry of exactly this hash, or null.
  const Entry* find(std::uint64_t hash) const {
    const Entry& entry = entries_[hash & (kEntries - 1)];
    return entry.work != 0 && entry.hash == hash ? &entry : nullptr;
  }

 private:
  static constexpr std::size_t kEntries = 1 << 15;  // 768 KiB
  std::vector<Entry> entries_;
};

}  // namespace evictd
