// RESP2 on the wire: commands to bytes, bytes to replies. Rests on: Redis manual, "Redis
// serialization protocol specification". Pure.
//
// Replies come from a peer that may be broken, or may hold what a hostile reader stored there: nothing a peer sends
// makes the reader keep more than ReplyLimits say. What is too long is refused at its head, before it is gathered.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mapping/error.h"

namespace evictd {

// "*<count>\r\n": the head of a command of `count` arguments.
void append_command_head(std::string& out, std::size_t count);
// "$<length>\r\n<text>\r\n".
void append_argument(std::string& out, std::string_view text);
void append_argument(std::string& out, std::uint64_t number);
void append_command(std::string& out, std::initializer_list<std::string_view> arguments);

struct Reply {
  // kTooLong: an element of an array that is longer than any name evictd uses, or a text that is longer than its reader takes. Its
  // length stands in `integer`; its bytes were thrown away as they came.
  enum class Kind : std::uint8_t { kStatus, kError, kInteger, kText, kNil, kArray, kTooLong };
  Kind kind = Kind::kNil;
  std::int64_t integer = 0;
  std::string text;             // status, error, text
  std::vector<Reply> elements;  // array

  bool is_error() const { return kind == Kind::kError; }
  bool is_ok() const { return kind == Kind::kStatus && text == "OK"; }
};

struct ReplyLimits {
  std::size_t reply_bytes = 16 * 1024 * 1024;  // of one reply, its elements' own size counted
  std::size_t element_bytes = 64 * 1024;       // a longer text in an array is kTooLong
  std::size_t depth = 4;                       // arrays in arrays
  std::size_t text_bytes = 0;                  // a longer text that is a whole reply is kTooLong; 0: it is refused past reply_bytes
};

// Cuts a stream of bytes into replies. After an error it must not be used again.
class ReplyReader {
 public:
  explicit ReplyReader(ReplyLimits limits = {}) : limits_(limits) {}

  // Takes more bytes. What is fed is bounded by whoever feeds: all whole replies should be taken in between.
  void feed(std::string_view bytes);
  // The next whole reply, if there is one. kConnection when the bytes are not RESP2, or too many.
  Result<std::optional<Reply>> next();
  // Bytes fed so far: a long reply that comes in pieces is no silence.
  std::uint64_t bytes_fed() const { return bytes_fed_; }

 private:
  struct Open {
    Reply array;
    std::size_t missing = 0;  // elements
  };
  struct Text {
    Reply reply;
    std::size_t missing = 0;  // bytes
  };

  Result<void> take_text();
  Result<bool> take_line();
  Result<void> begin_text(std::int64_t length);
  Result<void> begin_array(std::int64_t count);
  Result<void> complete(Reply reply);
  Result<void> count_kept(std::size_t bytes);

  ReplyLimits limits_;
  std::string buffer_;
  std::size_t at_ = 0;  // what is in front of it is done with
  std::uint64_t bytes_fed_ = 0;
  std::vector<Open> open_;
  std::optional<Text> text_;
  std::size_t kept_ = 0;  // by the reply that is being gathered
  std::optional<Reply> done_;
};

}  // namespace evictd
