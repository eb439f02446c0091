#include "daemon/sources/postgres/stream_frames.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace evictd {
namespace {

constexpr std::size_t kHead = 5;        // type and length
constexpr std::size_t kDataHead = 25;   // of a 'w' message: letter, two positions, time

std::uint32_t u32_at(const char* at) {
  std::uint32_t value = 0;
  std::memcpy(&value, at, sizeof(value));
  return __builtin_bswap32(value);
}

}  // namespace

std::span<char> StreamFrames::room() {
  if (begin_ == end_) {
    begin_ = end_ = 0;
  } else if (begin_ > 0 && buffer_.size() - end_ < buffer_.size() / 2) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  return {buffer_.data() + end_, buffer_.size() - end_};
}

Result<std::optional<StreamFrames::Frame>> StreamFrames::next() {
  if (!is_long_ && !long_.kept().empty()) long_.forget();  // the last frame's
  while (true) {
    if (is_long_) {
      std::string_view bytes(buffer_.data() + begin_, end_ - begin_);
      const std::size_t before = bytes.size();
      if (!long_.take(bytes)) {
        return fail(ErrorKind::kData, fmt::format("expected messages other than rows to have at most {} bytes", kRowKeptMax));
      }
      begin_ += before - bytes.size();
      if (!long_.is_whole()) return std::nullopt;
      is_long_ = false;
      if (long_.is_wanted()) return Frame{'d', long_.kept()};
      long_.forget();
    }
    if (end_ - begin_ < kHead) return std::nullopt;
    const char* const head = buffer_.data() + begin_;
    const std::size_t length = u32_at(head + 1);
    if (length < 4) return fail(ErrorKind::kData, fmt::format("expected a message of at least 4 bytes, got {}", length));
    if (1 + length > buffer_.size()) {
      if (*head != 'd') {
        return fail(ErrorKind::kData, fmt::format("expected a message '{}' of at most {} bytes, got {}",
                                                  *head >= ' ' && *head <= '~' ? *head : '?', buffer_.size(), length));
      }
      begin_ += kHead;
      long_.begin(length - 4);
      is_long_ = true;
      continue;
    }
    if (end_ - begin_ < 1 + length) return std::nullopt;
    begin_ += 1 + length;
    return Frame{*head, std::string_view(head + kHead, length - 4)};
  }
}

void StreamFrames::LongMessage::begin(std::size_t length) {
  left_ = length;
  kept_.clear();
  skip_ = 0;
  copy_ = kDataHead + 1;
  state_ = State::kType;
}

void StreamFrames::LongMessage::forget() {
  kept_.clear();
  if (kept_.capacity() > kBufferBytes) std::string().swap(kept_);
}

bool StreamFrames::LongMessage::take(std::string_view& bytes) {
  while (left_ > 0 && !bytes.empty()) {
    if (skip_ == 0 && copy_ == 0 && !decide()) return false;
    std::size_t& wanted = skip_ > 0 ? skip_ : copy_;
    const std::size_t count = std::min({wanted, bytes.size(), left_});
    if (&wanted == &copy_) kept_.append(bytes.data(), count);
    bytes.remove_prefix(count);
    left_ -= count;
    wanted -= count;
  }
  return true;
}

// What follows what has been kept so far. Leaves something to copy or to skip.
bool StreamFrames::LongMessage::decide() {
  while (copy_ == 0 && skip_ == 0) {  // an empty value leaves nothing to copy
    switch (state_) {
      case State::kType:
        if (kept_[0] != 'w') return false;
        type_ = kept_.back();
        if (type_ == 'M') {  // a logical message so long is none of ours
          state_ = State::kUnwanted;
          skip_ = left_;
        } else if (type_ == 'I' || type_ == 'U' || type_ == 'D') {
          state_ = State::kRow;
          copy_ = 5;  // the table, and which row comes
        } else {
          state_ = State::kAsItIs;
          if (kept_.size() + left_ > kRowKeptMax) return false;
          copy_ = left_;
        }
        break;
      case State::kRow:
        row_ = kept_.back();
        state_ = State::kCount;
        copy_ = 2;
        break;
      case State::kCount:
        columns_left_ = static_cast<std::size_t>(static_cast<unsigned char>(kept_[kept_.size() - 2])) << 8 |
                        static_cast<unsigned char>(kept_.back());
        if (!next_column()) return false;
        break;
      case State::kKind:
        if (kept_.back() == 'n' || kept_.back() == 'u') {
          if (!next_column()) return false;
        } else if (kept_.back() == 't') {
          state_ = State::kLength;
          copy_ = 4;
        } else {
          return false;
        }
        break;
      case State::kLength: {
        const std::size_t length = u32_at(kept_.data() + kept_.size() - 4);
        if (length > left_) return false;
        state_ = State::kValue;
        if (kept_.size() + length <= (length <= kShortValue ? kRowBytesMax : kRowKeptMax)) {
          copy_ = length;
        } else {
          kept_.resize(kept_.size() - 5);
          kept_ += kLeftOut;
          skip_ = length;
        }
        break;
      }
      case State::kValue:
        if (!next_column()) return false;
        break;
      case State::kAsItIs:
      case State::kUnwanted:
        return false;
    }
  }
  return true;
}

bool StreamFrames::LongMessage::next_column() {
  if (columns_left_ > 0) {
    --columns_left_;
    state_ = State::kKind;
    copy_ = 1;
    return true;
  }
  if (type_ != 'U' || row_ == 'N') return false;  // there is more than the row
  state_ = State::kRow;
  copy_ = 1;
  return true;
}

}  // namespace evictd
