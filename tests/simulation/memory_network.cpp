#include "tests/simulation/memory_network.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "daemon/sinks/redis/transport.h"
#include "mapping/check.h"

namespace evictd {

using testing::memory_network;
using testing::MemoryLink;
using testing::MemoryServer;

struct Transport::Impl {
  const RedisAddress& address;
  State state = State::kClosed;
  MemoryServer* server = nullptr;
  std::shared_ptr<MemoryLink> link;

  Error lost(const std::string& what) {
    close();
    return Error{ErrorKind::kConnection, what + " redis at '" + address.to_string() + "'", {}};
  }
  void close() {
    if (link) link->is_left = true;
    link.reset();
    state = State::kClosed;
  }
};

Transport::Transport(const RedisAddress& address, TlsFiles) : impl_(new Impl{address, State::kClosed, nullptr, nullptr}) {}
Transport::~Transport() { impl_->close(); }
Transport::State Transport::state() const { return impl_->state; }
void Transport::close() { impl_->close(); }

void Transport::open() {
  EVICTD_CHECK(impl_->state == State::kClosed);
  const auto found = memory_network().find(impl_->address.host);
  EVICTD_CHECK(found != memory_network().end());
  impl_->server = found->second;
  impl_->link = impl_->server->connect();
  impl_->state = State::kConnecting;
}

Result<Transport::State> Transport::advance() {
  if (impl_->state == State::kConnecting) {
    if (impl_->link->is_refused || impl_->link->is_cut) return tl::unexpected(impl_->lost("cannot connect to"));
    if (impl_->link->is_open) impl_->state = State::kOpen;
  }
  return impl_->state;
}

Result<std::size_t> Transport::read(std::string& bytes, std::size_t limit) {
  EVICTD_CHECK(impl_->state == State::kOpen);
  std::string& there = impl_->link->to_client;
  if (there.empty() && impl_->link->is_cut) return tl::unexpected(impl_->lost("lost the connection to"));
  const std::size_t size = impl_->server->piece(std::min({there.size(), limit, kReadMax}));
  bytes.append(there, 0, size);
  there.erase(0, size);
  return size;
}

Result<std::size_t> Transport::write(std::string_view bytes) {
  EVICTD_CHECK(impl_->state == State::kOpen);
  if (impl_->link->is_cut) return tl::unexpected(impl_->lost("lost the connection to"));
  // More than any one command: the server takes them whole, and the readers' library has 64 KiB.
  constexpr std::size_t kRoom = 256 * 1024;
  const std::size_t used = std::min(impl_->link->to_server.size(), kRoom);
  const std::size_t size = impl_->server->piece(std::min(bytes.size(), kRoom - used));
  impl_->link->to_server.append(bytes.substr(0, size));
  return size;
}

void Transport::wait_for(Waiting& waiting, bool) const { waiting.wake_at(SteadyTime::min()); }

namespace testing {
namespace {

// The first whole command, taken off the front; nothing while it is not there as a whole.
std::optional<MemoryRedis::Arguments> take_command(std::string& bytes) {
  std::size_t at = 0;
  const auto take_number = [&](char mark) -> std::optional<std::size_t> {
    const std::size_t end = bytes.find("\r\n", at);
    if (end == std::string::npos) return std::nullopt;
    EVICTD_CHECK(bytes[at] == mark);
    std::size_t value = 0;
    const auto [last, error] = std::from_chars(bytes.data() + at + 1, bytes.data() + end, value);
    EVICTD_CHECK(error == std::errc() && last == bytes.data() + end);
    at = end + 2;
    return value;
  };
  const auto count = take_number('*');
  if (!count) return std::nullopt;
  MemoryRedis::Arguments arguments;
  for (std::size_t i = 0; i < *count; ++i) {
    if (at >= bytes.size()) return std::nullopt;
    const auto size = take_number('$');
    if (!size || bytes.size() < at + *size + 2) return std::nullopt;
    arguments.push_back(bytes.substr(at, *size));
    at += *size + 2;
  }
  bytes.erase(0, at);
  return arguments;
}

}  // namespace

std::map<std::string, MemoryServer*>& memory_network() {
  static thread_local std::map<std::string, MemoryServer*> servers;
  return servers;
}

std::shared_ptr<MemoryLink> MemoryServer::connect() { return links_.emplace_back(std::make_shared<MemoryLink>()); }

std::size_t MemoryServer::piece(std::size_t most) {
  if (!tears || most < 2) return most;
  return 1 + random_() % most;
}

bool MemoryServer::carry_out_one(MemoryLink& link) {
  const auto command = take_command(link.to_server);
  if (!command) return false;
  const Reply reply = redis.execute(link.client, *command);
  if (!link.is_cut && !link.is_left) append_reply(link.to_client, reply);
  if (on_carried_out) on_carried_out(*command);
  return true;
}

void MemoryServer::turn() {
  if (!is_up) {
    for (const auto& link : links_) (link->is_open ? link->is_cut : link->is_refused) = true;
    links_.clear();
    return;
  }
  if (is_frozen) return;
  std::size_t left = commands_per_turn;
  for (auto at = links_.begin(); at != links_.end();) {
    MemoryLink& link = **at;
    link.is_open = true;
    while (left > 0 && carry_out_one(link)) --left;
    // Half a command of somebody who is gone is none.
    const bool is_over = (link.is_left || link.is_cut) && left > 0;
    at = is_over ? links_.erase(at) : std::next(at);
  }
}

void MemoryServer::cut(std::size_t carry_out_first, bool loses_the_rest) {
  for (auto at = links_.begin(); at != links_.end();) {
    MemoryLink& link = **at;
    if (!link.is_open) {
      ++at;
      continue;
    }
    link.to_client.clear();
    link.is_cut = true;
    for (std::size_t i = 0; i < carry_out_first && carry_out_one(link); ++i) {}
    at = loses_the_rest ? links_.erase(at) : std::next(at);
  }
}

void MemoryServer::restart(MemoryRedis::Data data) {
  for (const auto& link : links_) (link->is_open ? link->is_cut : link->is_refused) = true;
  links_.clear();
  redis.restart(std::move(data));
}

}  // namespace testing
}  // namespace evictd
