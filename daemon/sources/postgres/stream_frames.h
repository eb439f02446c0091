// The frames of a replication stream, from bytes in whatever pieces they come. Pure. Memory is bounded whatever is
// sent (G8): libpq would gather each message whole, twice, and a row may have a gigabyte.
//
// A row of up to kRowKeptMax comes as the server sent it. Of a larger one, values that would bring it beyond that are
// thrown away as they come: in place of each stands kLeftOut, without length or text, which the decoder reads as "not
// sent". Short values (kShortValue) are kept for as long as the row stays within kRowBytesMax.
//
// Rests on: PostgreSQL manual, "Message Formats", "Streaming Replication Protocol" and "Logical Replication Message
// Formats".
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mapping/error.h"

namespace evictd {

class StreamFrames {
 public:
  static constexpr std::size_t kBufferBytes = 256 * 1024;
  static constexpr std::size_t kRowKeptMax = 8 * 1024 * 1024;
  static constexpr std::size_t kRowBytesMax = 2 * kRowKeptMax;
  static constexpr std::size_t kShortValue = 64 * 1024;
  static constexpr char kLeftOut = 'x';  // no kind of value of the protocol's

  struct Frame {
    char type = 0;
    std::string_view body;
  };

  StreamFrames() : buffer_(kBufferBytes) {}

  // Where to put what is received next, never empty. REQUIRES: next() found no frame since the last received().
  std::span<char> room();
  void received(std::size_t count) { end_ += count; }

  // The next frame, valid until the next call of anything. None: more bytes are needed. An error (kData) when the bytes
  // are no frame, or one of a kind that cannot be that long; the stream must then be dropped.
  Result<std::optional<Frame>> next();

 private:
  // Takes a CopyData message that is longer than the buffer to pieces as it comes.
  class LongMessage {
   public:
    void begin(std::size_t length);
    // Takes from the front of `bytes`; false when this is no message that can be so long.
    bool take(std::string_view& bytes);
    bool is_whole() const { return left_ == 0; }
    bool is_wanted() const { return state_ != State::kUnwanted; }
    std::string_view kept() const { return kept_; }
    void forget();

   private:
    enum class State { kType, kRow, kCount, kKind, kLength, kValue, kAsItIs, kUnwanted };
    bool decide();
    bool next_column();
    std::size_t left_ = 0;  // of the message
    std::size_t copy_ = 0;  // bytes to keep before the next decision
    std::size_t skip_ = 0;  // bytes to throw away before the next decision
    State state_ = State::kType;
    char type_ = 0;
    char row_ = 0;  // 'K', 'O' or 'N'
    std::size_t columns_left_ = 0;
    std::string kept_;
  };

  std::vector<char> buffer_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  bool is_long_ = false;
  LongMessage long_;
};

}  // namespace evictd
