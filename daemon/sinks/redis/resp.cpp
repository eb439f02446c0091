#include "daemon/sinks/redis/resp.h"

#include <hiredis/hiredis.h>
#include <hiredis/read.h>

#include <charconv>
#include <cstring>

#include "mapping/check.h"

namespace evictd {
namespace {

void append_number(std::string& out, std::uint64_t number) {
  char digits[24];
  const auto [end, error] = std::to_chars(digits, digits + sizeof(digits), number);
  EVICTD_CHECK(error == std::errc{});
  out.append(digits, static_cast<std::size_t>(end - digits));
}

Reply to_reply(const redisReply& from) {
  Reply reply;
  switch (from.type) {
    case REDIS_REPLY_STATUS:
      reply.kind = Reply::Kind::kStatus;
      break;
    case REDIS_REPLY_ERROR:
      reply.kind = Reply::Kind::kError;
      break;
    case REDIS_REPLY_STRING:
      reply.kind = Reply::Kind::kText;
      break;
    case REDIS_REPLY_INTEGER:
      reply.kind = Reply::Kind::kInteger;
      reply.integer = from.integer;
      return reply;
    case REDIS_REPLY_ARRAY:
      reply.kind = Reply::Kind::kArray;
      reply.elements.reserve(from.elements);
      for (std::size_t i = 0; i < from.elements; ++i) {
        reply.elements.push_back(to_reply(*from.element[i]));
      }
      return reply;
    default:
      return reply;  // nil
  }
  reply.text.assign(from.str, static_cast<std::size_t>(from.len));
  return reply;
}

}  // namespace

void append_command_head(std::string& out, std::size_t count) {
  out += '*';
  append_number(out, count);
  out += "\r\n";
}

void append_argument(std::string& out, std::string_view text) {
  out += '$';
  append_number(out, text.size());
  out += "\r\n";
  out += text;
  out += "\r\n";
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

struct ReplyReader::Impl {
  struct Deleter {
    void operator()(redisReader* reader) const { redisReaderFree(reader); }
  };
  std::unique_ptr<redisReader, Deleter> reader{redisReaderCreate()};

  tl::unexpected<Error> broken() const {
    return fail(ErrorKind::kConnection,
                std::string("redis sent what is not a reply: ") + reader->errstr);
  }
};

ReplyReader::ReplyReader() : impl_(std::make_unique<Impl>()) { EVICTD_CHECK(impl_->reader); }
ReplyReader::~ReplyReader() = default;

Result<void> ReplyReader::feed(std::string_view bytes) {
  if (redisReaderFeed(impl_->reader.get(), bytes.data(), bytes.size()) != REDIS_OK) {
    return impl_->broken();
  }
  return {};
}

Result<std::optional<Reply>> ReplyReader::next() {
  void* raw = nullptr;
  if (redisReaderGetReply(impl_->reader.get(), &raw) != REDIS_OK) return impl_->broken();
  if (raw == nullptr) return std::optional<Reply>{};
  struct Free {
    void operator()(redisReply* reply) const { freeReplyObject(reply); }
  };
  const std::unique_ptr<redisReply, Free> owned(static_cast<redisReply*>(raw));
  return std::optional<Reply>(to_reply(*owned));
}

}  // namespace evictd
