#include "daemon/sinks/redis/resp.h"

#include <algorithm>
#include <charconv>

#include "daemon/base/text.h"
#include "mapping/check.h"

namespace evictd {
namespace {

constexpr std::size_t kLineMax = 16 * 1024;             // a status, an error or a head
constexpr std::int64_t kBulkMax = 512 * 1024 * 1024;    // Redis's own 'proto-max-bulk-len'
constexpr std::string_view kLineEnd = "\r\n";

void append_number(std::string& out, std::uint64_t number) {
  char digits[24];
  const auto [end, error] = std::to_chars(digits, digits + sizeof(digits), number);
  EVICTD_CHECK(error == std::errc{});
  out.append(digits, static_cast<std::size_t>(end - digits));
}

tl::unexpected<Error> broken(std::string text, std::string hint = {}) {
  return fail(ErrorKind::kConnection, "redis sent what is not a reply: " + std::move(text), std::move(hint));
}

tl::unexpected<Error> too_much(std::uint64_t bytes, std::size_t most) {
  return fail(ErrorKind::kConnection, "redis sent a reply of " + std::to_string(bytes) + " bytes, expected at most " +
                                          std::to_string(most));
}

// The first bytes of what is no RESP: printable ones as they are.
std::string shown(std::string_view bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text = "'";
  for (const char c : bytes.substr(0, 24)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f) {
      text += c;
    } else {
      text += "\\x";
      text += kDigits[byte >> 4];
      text += kDigits[byte & 15];
    }
  }
  return text + "'";
}

}  // namespace

void append_command_head(std::string& out, std::size_t count) {
  out += '*';
  append_number(out, count);
  out += kLineEnd;
}

void append_argument(std::string& out, std::string_view text) {
  out += '$';
  append_number(out, text.size());
  out += kLineEnd;
  out += text;
  out += kLineEnd;
}

void append_argument(std::string& out, std::uint64_t number) {
  char digits[24];
  const auto [end, error] = std::to_chars(digits, digits + sizeof(digits), number);
  EVICTD_CHECK(error == std::errc{});
  append_argument(out, std::string_view(digits, static_cast<std::size_t>(end - digits)));
}

void append_command(std::string& out, std::initializer_list<std::string_view> arguments) {
  append_command_head(out, arguments.size());
  for (const std::string_view argument : arguments) append_argument(out, argument);
}

void ReplyReader::feed(std::string_view bytes) {
  if (at_ == buffer_.size()) {
    buffer_.clear();
    at_ = 0;
  } else if (at_ > buffer_.size() / 2) {
    buffer_.erase(0, at_);
    at_ = 0;
  }
  buffer_ += bytes;
  bytes_fed_ += bytes.size();
}

Result<std::optional<Reply>> ReplyReader::next() {
  while (!done_) {
    const std::size_t before = at_;
    if (text_) {
      if (auto taken = take_text(); !taken) return tl::unexpected(std::move(taken.error()));
      if (text_ && at_ == before) return std::optional<Reply>{};
      continue;
    }
    auto taken = take_line();
    if (!taken) return tl::unexpected(std::move(taken.error()));
    if (!*taken) return std::optional<Reply>{};
  }
  kept_ = 0;
  return std::exchange(done_, std::nullopt);
}

// Bytes of a text, as many as are there; with the last of them its line end.
Result<void> ReplyReader::take_text() {
  const std::size_t taken = std::min(text_->missing, buffer_.size() - at_);
  if (text_->reply.kind == Reply::Kind::kText) text_->reply.text.append(buffer_, at_, taken);
  text_->missing -= taken;
  at_ += taken;
  if (text_->missing > 0 || buffer_.size() - at_ < kLineEnd.size()) return {};
  if (buffer_.compare(at_, kLineEnd.size(), kLineEnd) != 0) return broken("a text goes on beyond its length");
  at_ += kLineEnd.size();
  Reply reply = std::move(text_->reply);
  text_.reset();
  return complete(std::move(reply));
}

// False when the line is not whole yet.
Result<bool> ReplyReader::take_line() {
  const std::string_view rest = std::string_view(buffer_).substr(at_);
  if (rest.empty()) return false;
  const char type = rest.front();
  if (type == '\x15' || type == '\x16') {
    return broken("bytes of TLS", "this port speaks TLS: write 'rediss://' in 'redis: url:'");
  }
  if (std::string_view("+-:$*").find(type) == std::string_view::npos) return broken("it begins with " + shown(rest));
  const std::size_t end = rest.substr(0, kLineMax).find(kLineEnd);
  if (end == std::string_view::npos) {
    if (rest.size() >= kLineMax) return broken("a line of more than " + std::to_string(kLineMax) + " bytes");
    return false;
  }
  const std::string_view line = rest.substr(1, end - 1);
  at_ += end + kLineEnd.size();
  Reply reply;
  Result<void> taken;
  if (type == '+' || type == '-') {
    reply.kind = type == '+' ? Reply::Kind::kStatus : Reply::Kind::kError;
    reply.text = line;
    taken = complete(std::move(reply));
  } else {
    if (!read_number(line, reply.integer)) return broken("expected a number, got " + shown(line));
    if (type == ':') {
      reply.kind = Reply::Kind::kInteger;
      taken = complete(std::move(reply));
    } else {
      taken = type == '$' ? begin_text(reply.integer) : begin_array(reply.integer);
    }
  }
  if (!taken) return tl::unexpected(std::move(taken.error()));
  return true;
}

Result<void> ReplyReader::begin_text(std::int64_t length) {
  if (length == -1) return complete(Reply{});
  if (length < 0) return broken("a length of " + std::to_string(length));
  const auto bytes = static_cast<std::size_t>(length);
  Text text;
  text.missing = bytes;
  text.reply.kind = Reply::Kind::kText;
  const std::size_t kept_max = open_.empty() ? limits_.text_bytes : limits_.element_bytes;
  if (length > kBulkMax || (kept_max == 0 && bytes > limits_.reply_bytes)) return too_much(bytes, limits_.reply_bytes);
  if (kept_max > 0 && bytes > kept_max) {
    text.reply.kind = Reply::Kind::kTooLong;
    text.reply.integer = length;
  }
  // Grows as its bytes come: a length alone allocates nothing.
  text_ = std::move(text);
  return {};
}

Result<void> ReplyReader::begin_array(std::int64_t count) {
  if (count == -1) return complete(Reply{});
  if (count < 0) return broken("a count of " + std::to_string(count));
  Open array;
  array.array.kind = Reply::Kind::kArray;
  array.missing = static_cast<std::size_t>(count);
  if (array.missing == 0) return complete(std::move(array.array));
  if (open_.size() >= limits_.depth) return broken("arrays in arrays, too deep");
  if (array.missing > limits_.reply_bytes / sizeof(Reply)) {
    return too_much(array.missing * sizeof(Reply), limits_.reply_bytes);
  }
  open_.push_back(std::move(array));
  return {};
}

Result<void> ReplyReader::complete(Reply reply) {
  while (!open_.empty()) {
    // A vector that grows holds the old elements and the new ones for a moment.
    if (auto counted = count_kept(2 * sizeof(Reply) + reply.text.size()); !counted) return counted;
    Open& top = open_.back();
    top.array.elements.push_back(std::move(reply));
    if (--top.missing > 0) return {};
    reply = std::move(top.array);
    open_.pop_back();
  }
  done_ = std::move(reply);
  return {};
}

Result<void> ReplyReader::count_kept(std::size_t bytes) {
  kept_ += bytes;
  if (kept_ > limits_.reply_bytes) return too_much(kept_, limits_.reply_bytes);
  return {};
}

}  // namespace evictd
