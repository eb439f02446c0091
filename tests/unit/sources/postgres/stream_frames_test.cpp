#include "daemon/sources/postgres/stream_frames.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

namespace evictd {
namespace {

using ::testing::HasSubstr;

std::string u32(std::size_t value) {
  const std::uint32_t turned = __builtin_bswap32(static_cast<std::uint32_t>(value));
  return {reinterpret_cast<const char*>(&turned), 4};
}

std::string frame(char type, const std::string& body) { return type + u32(body.size() + 4) + body; }
std::string data(const std::string& message) { return frame('d', "w" + std::string(24, '\1') + message); }

std::string tuple(char kind, const std::vector<std::string>& values) {
  std::string text{kind, static_cast<char>(values.size() >> 8), static_cast<char>(values.size())};
  for (const std::string& value : values) text += 't' + u32(value.size()) + value;
  return text;
}
std::string insert(const std::vector<std::string>& values) { return "I" + u32(7) + tuple('N', values); }

struct Seen {
  std::vector<std::pair<char, std::string>> frames;
  std::string error;
};

// Feeds `bytes` in pieces of the sizes that `piece` gives.
template <typename Piece>
Seen read(std::string_view bytes, Piece piece) {
  StreamFrames frames;
  Seen seen;
  while (true) {
    auto next = frames.next();
    if (!next) {
      seen.error = next.error().text;
      return seen;
    }
    if (*next) {
      seen.frames.emplace_back((*next)->type, std::string((*next)->body));
      continue;
    }
    if (bytes.empty()) return seen;
    const std::span<char> room = frames.room();
    const std::size_t count = std::min({room.size(), bytes.size(), std::max<std::size_t>(piece(), 1)});
    std::memcpy(room.data(), bytes.data(), count);
    frames.received(count);
    bytes.remove_prefix(count);
  }
}
Seen read_whole(std::string_view bytes) {
  return read(bytes, [] { return StreamFrames::kBufferBytes; });
}

TEST(StreamFrames, AreTheSameWhereverTheyAreCut) {
  std::mt19937_64 random(std::random_device{}());
  std::string bytes;
  std::vector<std::string> bodies;
  for (std::size_t size : {0u, 1u, 30u, 70'000u, 262'000u, 300'000u, 1'000'000u, 3u}) {
    const std::string message = insert({std::string(size, 'a'), "", std::string(size / 3, 'b')});
    bytes += data(message);
    bodies.push_back("w" + std::string(24, '\1') + message);
  }
  for (const std::size_t most : {1u, 7u, 5'000u, 300'000u}) {
    const Seen seen = read(bytes, [&] { return std::uniform_int_distribution<std::size_t>(1, most)(random); });
    ASSERT_EQ(seen.error, "");
    ASSERT_EQ(seen.frames.size(), bodies.size());
    for (std::size_t i = 0; i < bodies.size(); ++i) EXPECT_TRUE(seen.frames[i].second == bodies[i]) << i;
  }
}

TEST(StreamFrames, ValuesThatMakeARowTooLargeAreLeftOutAndTheOthersAreKept) {  // G8
  const std::string huge(StreamFrames::kRowKeptMax, 'h');
  const std::string large(1'000'000, 'l');
  const Seen seen = read_whole(data("U" + u32(7) + tuple('O', {"1", huge, large}) + tuple('N', {huge, "2", ""})) + frame('N', "note"));
  ASSERT_EQ(seen.error, "");
  ASSERT_EQ(seen.frames.size(), 2u);
  const std::string expected = "w" + std::string(24, '\1') + "U" + u32(7) + std::string("O\0\3t", 4) + u32(1) + "1" + "x" + "t" + u32(large.size()) +
                               large + std::string("N\0\3x", 4) + "t" + u32(1) + "2" + "t" + u32(0);
  EXPECT_TRUE(seen.frames[0].second == expected);
  EXPECT_EQ(seen.frames[1].first, 'N');
}

TEST(StreamFrames, ARowOfManyShortValuesIsBoundedToo) {  // G8
  const std::vector<std::string> values(1600, std::string(StreamFrames::kShortValue, 's'));
  const Seen seen = read_whole(data("U" + u32(7) + tuple('O', values) + tuple('N', values)));
  ASSERT_EQ(seen.error, "");
  ASSERT_EQ(seen.frames.size(), 1u);
  EXPECT_LE(seen.frames[0].second.size(), StreamFrames::kRowBytesMax + 2 * 1600);
}

TEST(StreamFrames, ALongLogicalMessageOfSomebodyPassesBy) {
  const Seen seen = read_whole(data("M" + std::string(5'000'000, 'm')) + data(insert({"1"})));
  ASSERT_EQ(seen.error, "");
  ASSERT_EQ(seen.frames.size(), 1u);
  EXPECT_THAT(seen.frames[0].second, HasSubstr(insert({"1"})));
}

TEST(StreamFrames, WhatCannotBeSoLongIsRefused) {
  EXPECT_THAT(read_whole(frame('E', std::string(300'000, 'e'))).error, HasSubstr("expected a message 'E' of at most"));
  EXPECT_THAT(read_whole(frame('d', "k" + std::string(300'000, 'k'))).error, HasSubstr("other than rows"));
  EXPECT_THAT(read_whole("d" + u32(3)).error, HasSubstr("at least 4 bytes"));
  EXPECT_THAT(read_whole(data("R" + std::string(StreamFrames::kRowKeptMax, 'r'))).error, HasSubstr("other than rows"));
  // A row that says that it is longer than its message.
  EXPECT_THAT(read_whole(data("I" + u32(7) + std::string("N\0\1t", 4) + u32(900'000) + std::string(500'000, 'v'))).error, HasSubstr("other than rows"));
  // More than the row.
  EXPECT_THAT(read_whole(data(insert({std::string(300'000, 'v')}) + "more")).error, HasSubstr("other than rows"));
}

TEST(StreamFrames, AnyBytesEndInFramesOrInAnError) {
  std::mt19937_64 random(20261128);
  const std::string row = data("U" + u32(7) + tuple('K', {"1", std::string(400'000, 'k')}) + tuple('N', {"1", std::string(300'000, 'n')}));
  for (int round = 0; round < 300; ++round) {
    std::string bytes = row + row;
    for (int flips = 0; flips < 3; ++flips) {
      // Where the structure is, or anywhere.
      const std::size_t at = std::uniform_int_distribution<std::size_t>(0, flips == 0 ? 60 : bytes.size() - 1)(random);
      bytes[at] = static_cast<char>(random());
    }
    const Seen seen = read(bytes, [&] { return std::uniform_int_distribution<std::size_t>(1, 200'000)(random); });
    EXPECT_LE(seen.frames.size(), bytes.size() / 5);
  }
}

}  // namespace
}  // namespace evictd
