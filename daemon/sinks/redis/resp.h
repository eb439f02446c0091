// RESP2 on the wire: commands to bytes, bytes to replies. Rests on: Redis manual, "Redis
// serialization protocol specification". The only part of evictd that knows hiredis (its reader, in
// resp.cpp).
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
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
  enum class Kind : std::uint8_t { kStatus, kError, kInteger, kText, kNil, kArray };
  Kind kind = Kind::kNil;
  std::int64_t integer = 0;
  std::string text;             // status, error, text
  std::vector<Reply> elements;  // array

  bool is_error() const { return kind == Kind::kError; }
  bool is_ok() const { return kind == Kind::kStatus && text == "OK"; }
};

// Cuts a stream of bytes into replies. After an error it must not be used again.
class ReplyReader {
 public:
  ReplyReader();
  ~ReplyReader();
  ReplyReader(const ReplyReader&) = delete;
  ReplyReader& operator=(const ReplyReader&) = delete;

  // kConnection when the bytes are not RESP2.
  Result<void> feed(std::string_view bytes);
  // The next whole reply, if there is one.
  Result<std::optional<Reply>> next();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace evictd
