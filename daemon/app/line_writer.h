// Writes lines to a descriptor and never waits for whoever reads it: a log that nobody reads must not stop the loop.
// What does not go out at once waits in a bounded backlog; what does not fit there is dropped, and counted. One thread
// at a time.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "daemon/base/descriptor.h"

namespace evictd {

class LineWriter {
 public:
  static constexpr std::size_t kBacklogMax = 256 * 1024;

  // `descriptor` stays the caller's, and open. Its flags are left alone: they are shared with other processes.
  explicit LineWriter(int descriptor);

  // `line` ends with a newline. A line is written whole or dropped whole.
  void write(std::string_view line);
  // Tries again what waits.
  void flush();
  bool has_backlog() const { return !backlog_.empty(); }

  std::uint64_t dropped() const { return dropped_; }
  // Dropped since the last call; 0 while there is a backlog or nobody to read, so that the line
  // which says so comes after the hole.
  std::uint64_t take_dropped();

 private:
  enum class Kind { kFile, kSocket, kNonBlocking, kPolled };
  long put(std::string_view bytes);

  int descriptor_;
  Kind kind_ = Kind::kFile;
  Descriptor own_;  // kNonBlocking: the same pipe or terminal, opened anew, whose flags are ours
  std::string backlog_;
  std::uint64_t dropped_ = 0;
  std::uint64_t told_ = 0;
  bool broken_ = false;  // the last try failed for another reason than that it would have to wait
};

}  // namespace evictd
