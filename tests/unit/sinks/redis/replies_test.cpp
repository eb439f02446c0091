// What each reply has to look like: whole, or nothing of it counts (G1).
#include "daemon/sinks/redis/replies.h"

#include <gtest/gtest.h>

namespace evictd {
namespace {

Reply parsed(std::string_view bytes) {
  ReplyReader reader;
  reader.feed(bytes);
  auto next = reader.next();
  EXPECT_TRUE(next.has_value() && next->has_value()) << bytes;
  return next && *next ? std::move(**next) : Reply{};
}

Reply numbers(const std::vector<std::int64_t>& values) {
  Reply reply;
  reply.kind = Reply::Kind::kArray;
  for (const std::int64_t value : values) {
    Reply element;
    element.kind = Reply::Kind::kInteger;
    element.integer = value;
    reply.elements.push_back(element);
  }
  return reply;
}

// Of no command of ours.
const std::vector<std::string> kLies = {"$-1\r\n", "+OK\r\n", ":1\r\n", "*0\r\n", "*-1\r\n", "$0\r\n\r\n", "*1\r\n*0\r\n",
                                        "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nx\r\n", "*4\r\n:0\r\n:0\r\n:0\r\n$1\r\n0\r\n"};

TEST(Replies, OtherCommandsRepliesAreNone) {
  for (const std::string& lie : kLies) {
    EXPECT_FALSE(read_invalidate(parsed(lie), 5)) << lie;
    EXPECT_FALSE(read_walk(parsed(lie), 5)) << lie;
    EXPECT_FALSE(read_scan(parsed(lie))) << lie;
    EXPECT_FALSE(read_time(parsed(lie))) << lie;
    if (lie != "*0\r\n") {
      EXPECT_FALSE(read_counts(parsed(lie))) << lie;
    }
  }
}

TEST(Replies, CountsOfAnInvalidationMustFitItsKeys) {
  const auto read = read_invalidate(numbers({1, 1, 2, 1}), 5);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->deleted, 1u);
  EXPECT_EQ(read->replayed, 2u);
  constexpr std::int64_t kMost = INT64_MAX;
  for (const std::vector<std::int64_t>& wrong : std::vector<std::vector<std::int64_t>>{
           {0, 0, 0}, {6, 0, 0, 0}, {3, 3, 0, 0}, {2, 2, 2, 0}, {-1, 1, 0, 0}, {0, 0, 0, 6}, {0, 5, 0, 1},
           {kMost, kMost, 2, 0}, {kMost, kMost, kMost, 0}, {0, 0, 1, 0, 0}, {0, 0, 0, 0, 1}}) {
    EXPECT_FALSE(read_invalidate(numbers(wrong), 5)) << ::testing::PrintToString(wrong);
  }
}

TEST(Replies, OfAScatteredCallKeysThatWereNotTakenCountForNothing) {
  const auto whole = [](const std::vector<std::int64_t>& counts, const std::vector<std::int64_t>& hits, const std::vector<std::int64_t>& elsewhere) {
    Reply reply = numbers(counts);
    reply.elements.push_back(numbers(hits));
    reply.elements.push_back(numbers(elsewhere));
    return reply;
  };
  const auto read = read_scattered(whole({2, 1, 0, 1}, {1, 4}, {5}), 5, true);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->counts.deleted, 2u);
  EXPECT_EQ(read->counts.hits, (std::vector<std::uint32_t>{0, 3}));
  EXPECT_EQ(read->elsewhere, (std::vector<std::uint32_t>{4}));
  EXPECT_TRUE(read_scattered(whole({2, 1, 0, 0}, {}, {}), 5, false));
  EXPECT_FALSE(read_scattered(whole({2, 1, 0, 0}, {1, 4}, {5}), 5, false)) << "hits that nobody asked for";
  EXPECT_FALSE(read_scattered(whole({2, 1, 0, 0}, {1}, {5}), 5, true)) << "one hit too few";
  EXPECT_FALSE(read_scattered(whole({5, 0, 0, 0}, {1, 2, 3, 4, 5}, {5}), 5, true)) << "more than were taken";
  EXPECT_FALSE(read_scattered(whole({0, 0, 0, 0}, {}, {5, 5}), 5, false));
  EXPECT_FALSE(read_scattered(whole({0, 0, 0, 0}, {}, {6}), 5, false));
  EXPECT_FALSE(read_scattered(whole({0, 0, 0, 0}, {}, {0}), 5, false));
  EXPECT_FALSE(read_scattered(numbers({0, 0, 0, 0, 0, 0}), 5, false));
  for (const std::string& lie : kLies) EXPECT_FALSE(read_scattered(parsed(lie), 5, false)) << lie;
}

// G1: a key that was not done counts for nothing.
TEST(Replies, OfACallThatEndedEarlyTheKeysItDidCount) {
  const auto part = [](const Reply& counts, std::int64_t done) {
    Reply reply = numbers({0, done});
    reply.elements[0] = counts;
    return reply;
  };
  const auto read = read_invalidate(part(numbers({2, 1, 0, 0, 1, 3}), 3), 5, true);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->keys, 3u);
  EXPECT_EQ(read->deleted, 2u);
  EXPECT_EQ(read_invalidate(numbers({2, 1, 0, 0}), 5)->keys, 5u);
  for (const std::int64_t done : {-1, 0, 1, 5, 6}) EXPECT_FALSE(read_invalidate(part(numbers({2, 0, 0, 0}), done), 5)) << done;
  EXPECT_FALSE(read_invalidate(part(numbers({1, 0, 0, 0, 4}), 3), 5, true)) << "a hit beyond";
  EXPECT_FALSE(read_invalidate(part(part(numbers({1, 0, 0, 0}), 2), 3), 5));
  EXPECT_FALSE(read_invalidate(part(numbers({0, 0, 0, 0}), 0), 1));
  EXPECT_FALSE(read_invalidate(part(numbers({0, 0, 0, 0}), 1), 1));
  Reply three = part(numbers({1, 0, 0, 0}), 3);
  three.elements.push_back(three.elements[1]);
  EXPECT_FALSE(read_invalidate(three, 5));

  Reply counts = numbers({1, 1, 0, 0});
  counts.elements.push_back(numbers({1}));
  counts.elements.push_back(numbers({3}));
  const auto scattered = read_scattered(part(counts, 3), 5, true);
  ASSERT_TRUE(scattered);
  EXPECT_EQ(scattered->counts.keys, 3u);
  EXPECT_EQ(scattered->elsewhere, (std::vector<std::uint32_t>{2}));
  EXPECT_FALSE(read_scattered(part(counts, 2), 5, true)) << "not taken, and beyond";
  EXPECT_FALSE(read_scattered(part(counts, 5), 5, true));
}

TEST(Replies, HitsOfAnInvalidationAreItsDeletedKeysInOrder) {
  const auto read = read_invalidate(numbers({2, 1, 0, 0, 1, 5}), 5, true);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->hits, (std::vector<std::uint32_t>{0, 4}));
  EXPECT_TRUE(read_invalidate(numbers({0, 1, 0, 0}), 5, true)->hits.empty());
  for (const std::vector<std::int64_t>& wrong : std::vector<std::vector<std::int64_t>>{
           {2, 1, 0, 0}, {2, 1, 0, 0, 1}, {2, 1, 0, 0, 1, 1}, {2, 1, 0, 0, 2, 1}, {2, 1, 0, 0, 0, 1}, {2, 1, 0, 0, 1, 6}, {2, 1, 0, 0, 1, 2, 3}, {1, 0, 0}}) {
    EXPECT_FALSE(read_invalidate(numbers(wrong), 5, true)) << ::testing::PrintToString(wrong);
  }
  EXPECT_FALSE(read_invalidate(numbers({2, 1, 0, 0, 1, 5}), 5)) << "nobody asked for them";
}

TEST(Replies, WalkBeginsOrEndsWithSmallNumbers) {
  EXPECT_TRUE(read_walk(numbers({1, 2}), 1)->is_finished);
  EXPECT_FALSE(read_walk(numbers({0, 0}), 1)->is_finished);
  for (const std::vector<std::int64_t>& wrong :
       std::vector<std::vector<std::int64_t>>{{2, 0}, {-1, 0}, {0, -1}, {0, 3}, {0}, {0, 0, 0}, {1, 0, 1}, {1, 0, -1}}) {
    EXPECT_FALSE(read_walk(numbers(wrong), 1)) << ::testing::PrintToString(wrong);
  }
  // Of many at once, and which of them were finished.
  EXPECT_EQ(read_walk(numbers({0, 0, 1, 3}), 5)->finished, (std::vector<std::uint32_t>{1, 3}));
  EXPECT_FALSE(read_walk(numbers({0, 0, 3, 1}), 5));
  EXPECT_FALSE(read_walk(numbers({0, 0, 1, 1}), 5));
}

TEST(Replies, ScanIsACursorAndNames) {
  const auto read = read_scan(parsed("*2\r\n$2\r\n17\r\n*2\r\n$1\r\na\r\n$2\r\nbc\r\n"));
  ASSERT_TRUE(read);
  EXPECT_EQ(read->cursor, "17");
  EXPECT_EQ(read->names, (std::vector<std::string>{"a", "bc"}));
  EXPECT_EQ(read->bytes, 3u);
  for (const std::string wrong : {"*2\r\n$1\r\nx\r\n*0\r\n", "*2\r\n$2\r\n-1\r\n*0\r\n", "*2\r\n:0\r\n*0\r\n", "*2\r\n$1\r\n0\r\n$-1\r\n",
                                  "*2\r\n$1\r\n0\r\n*1\r\n:1\r\n", "*2\r\n$1\r\n0\r\n*1\r\n$-1\r\n", "*3\r\n$1\r\n0\r\n*0\r\n*0\r\n"}) {
    EXPECT_FALSE(read_scan(parsed(wrong))) << wrong;
  }
}

TEST(Replies, TimeIsInItsRange) {
  EXPECT_EQ(read_time(parsed("*2\r\n$10\r\n1700000000\r\n$6\r\n123456\r\n")), std::chrono::milliseconds(1'700'000'000'123));
  for (const std::string wrong : {"*2\r\n:1\r\n:1\r\n", "*2\r\n$2\r\n-1\r\n$1\r\n0\r\n", "*2\r\n$1\r\n1\r\n$7\r\n1000000\r\n",
                                  "*2\r\n$19\r\n9223372036854775807\r\n$1\r\n0\r\n", "*2\r\n$0\r\n\r\n$1\r\n0\r\n"}) {
    EXPECT_FALSE(read_time(parsed(wrong))) << wrong;
  }
}

TEST(Replies, CountsHaveNamesThatMayBeLabels) {
  EXPECT_EQ(read_counts(parsed("*2\r\n$6\r\nstored\r\n:3\r\n")), (NamedCounts{{"stored", 3}}));
  for (const std::string wrong : {"*1\r\n$1\r\na\r\n", "*2\r\n$1\r\na\r\n:-1\r\n", "*2\r\n$3\r\na\"b\r\n:1\r\n", "*2\r\n$0\r\n\r\n:1\r\n"}) {
    EXPECT_FALSE(read_counts(parsed(wrong))) << wrong;
  }
}

}  // namespace
}  // namespace evictd
