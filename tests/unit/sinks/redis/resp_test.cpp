// Bytes to replies, and what a peer may not do to our memory.
#include "daemon/sinks/redis/resp.h"

#include <gmock/gmock.h>

namespace evictd {
namespace {

using ::testing::HasSubstr;
using Kind = Reply::Kind;

// A reply as text again, to compare whole ones.
std::string shown(const Reply& reply) {
  switch (reply.kind) {
    case Kind::kStatus: return "+" + reply.text;
    case Kind::kError: return "-" + reply.text;
    case Kind::kInteger: return ":" + std::to_string(reply.integer);
    case Kind::kText: return "'" + reply.text + "'";
    case Kind::kNil: return "nil";
    case Kind::kTooLong: return "too long " + std::to_string(reply.integer);
    case Kind::kArray: break;
  }
  std::string text = "[";
  for (const Reply& element : reply.elements) text += shown(element) + " ";
  return text + "]";
}

// Every reply of `bytes`, fed in pieces of `piece`; ends with the error, if there is one.
std::vector<std::string> replies(std::string_view bytes, std::size_t piece, ReplyLimits limits = {}) {
  std::vector<std::string> all;
  ReplyReader reader(limits);
  for (std::size_t at = 0; at < bytes.size(); at += piece) {
    reader.feed(bytes.substr(at, piece));
    while (true) {
      auto next = reader.next();
      if (!next) {
        all.push_back("error: " + next.error().text);
        return all;
      }
      if (!*next) break;
      all.push_back(shown(**next));
    }
  }
  return all;
}

TEST(Resp, RepliesAreTheSameWhereverTheyAreCut) {
  const std::string bytes = "+OK\r\n-ERR no\r\n:-42\r\n$5\r\na\r\nbc\r\n$0\r\n\r\n$-1\r\n*-1\r\n*0\r\n*2\r\n*2\r\n:1\r\n$1\r\nx\r\n*0\r\n+last\r\n";
  const std::vector<std::string> whole = {"+OK", "-ERR no", ":-42", "'a\r\nbc'", "''", "nil", "nil", "[]", "[[:1 'x' ] [] ]", "+last"};
  for (std::size_t piece = 1; piece <= bytes.size(); ++piece) EXPECT_EQ(replies(bytes, piece), whole) << piece;
}

TEST(Resp, WhatIsNoReplyIsAnError) {
  for (const std::string bytes : {"HTTP/1.1 400\r\n", ":1x\r\n", ":\r\n", "$-2\r\n", "*-2\r\n", "$x\r\n", "$1\r\nabc\r\n", "%1\r\n", "_\r\n",
                                  ":99999999999999999999\r\n", "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n", "\r\n"}) {
    for (const std::size_t piece : {std::size_t{1}, bytes.size()}) {
      const auto all = replies(bytes, piece);
      ASSERT_FALSE(all.empty()) << bytes;
      EXPECT_THAT(all.back(), HasSubstr("error: redis sent what is not a reply: ")) << bytes;
    }
  }
}

TEST(Resp, BytesOfTlsAreNamed) {
  ReplyReader reader;
  reader.feed(std::string_view("\x15\x03\x01\x00\x02\x02\x46", 7));
  const auto next = reader.next();
  ASSERT_FALSE(next);
  EXPECT_EQ(next.error().hint, "this port speaks TLS: write 'rediss://' in 'redis: url:'");
}

TEST(Resp, ReplyBeyondTheLimitIsRefusedAtItsHead) {  // G8
  const ReplyLimits limits{1000, 100, 4};
  EXPECT_EQ(replies("$1001\r\n", 64, limits).back(), "error: redis sent a reply of 1001 bytes, expected at most 1000");
  EXPECT_THAT(replies("$2147483648\r\n", 64).back(), HasSubstr("expected at most 16777216"));
  EXPECT_THAT(replies("*1000000000\r\n", 64).back(), HasSubstr("expected at most 16777216"));
  EXPECT_THAT(replies("*1\r\n$536870913\r\n", 64).back(), HasSubstr("expected at most 16777216"));
  // Many small ones are as much as one that is large.
  std::string many = "*13\r\n";
  for (int i = 0; i < 13; ++i) many += "$90\r\n" + std::string(90, 'x') + "\r\n";
  EXPECT_THAT(replies(many, many.size(), limits).back(), HasSubstr("expected at most 1000"));
  EXPECT_THAT(replies("+" + std::string(20'000, 'x'), 64).back(), HasSubstr("a line of more than 16384 bytes"));
}

TEST(Resp, ElementThatIsTooLongIsThrownAwayAsItComes) {
  const ReplyLimits limits{2000, 100, 4};
  const std::string bytes = "*3\r\n$1\r\na\r\n$5000\r\n" + std::string(5000, 'x') + "\r\n$1\r\nb\r\n+next\r\n";
  for (const std::size_t piece : {std::size_t{1}, std::size_t{7}, bytes.size()}) {
    EXPECT_EQ(replies(bytes, piece, limits), (std::vector<std::string>{"['a' too long 5000 'b' ]", "+next"}));
  }
}

TEST(Resp, ATextThatIsLongerThanItsReaderTakesEndsNoConnection) {
  const ReplyLimits limits{2000, 100, 4, 500};
  const std::string bytes = "$5000\r\n" + std::string(5000, 'x') + "\r\n$1\r\nb\r\n";
  for (const std::size_t piece : {std::size_t{1}, std::size_t{7}, bytes.size()}) {
    EXPECT_EQ(replies(bytes, piece, limits), (std::vector<std::string>{"too long 5000", "'b'"}));
  }
  EXPECT_THAT(replies("$2147483648\r\n", 64, limits).back(), HasSubstr("2147483648 bytes"));  // more than Redis itself holds
}

}  // namespace
}  // namespace evictd
