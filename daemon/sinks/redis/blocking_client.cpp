#include "daemon/sinks/redis/blocking_client.h"

#include "daemon/base/poll.h"
#include "daemon/sinks/redis/errors.h"
#include "daemon/sinks/redis/record_text.h"
#include "daemon/sinks/redis/topology/sentinel_link.h"
#include "daemon/sinks/redis/told_address.h"
#include "daemon/sinks/redis/transport.h"

namespace evictd {

struct BlockingClient::Impl {
  Impl(RedisAddress where, const RedisOptions& from)
      : options(from),
        address(std::move(where)),
        transport(address, TlsFiles{from.tls_ca_file, from.tls_cert_file, from.tls_key_file}) {}

  RedisOptions options;
  RedisAddress address;
  Transport transport;
  // COMMAND INFO describes in depth. Nothing that we keep is longer than a record; the application's values may be, and are no reason to
  // give a connection up.
  ReplyReader reader{ReplyLimits{.depth = 16, .text_bytes = kRecordBytesMax}};
  std::optional<Error> over;                     // what has ended the connection

  tl::unexpected<Error> timed_out(std::string_view doing) const {
    return fail(ErrorKind::kConnection, "redis at '" + address.to_string() + "' did not " +
                                            std::string(doing) + " in time");
  }

  // False when the deadline has passed.
  bool wait(SteadyTime deadline, bool want_write) const {
    Waiting waiting;
    waiting.wake_at(deadline);
    transport.wait_for(waiting, want_write);
    if (std::chrono::steady_clock::now() >= deadline) return false;
    wait_for_any(waiting);
    return true;
  }

  Result<void> connect() {
    const SteadyTime deadline = std::chrono::steady_clock::now() + options.connect_timeout;
    transport.open();
    while (true) {
      auto state = transport.advance();
      if (!state) return tl::unexpected(state.error());
      if (*state == Transport::State::kOpen) return {};
      if (wait(deadline, false)) continue;
      if (*state != Transport::State::kHandshaking) return timed_out("answer");
      return fail(ErrorKind::kConnection,
                  "no TLS handshake with redis at '" + address.to_string() + "' within " + std::to_string(options.connect_timeout.count()) + "ms",
                  std::string(kNoTlsHint));
    }
  }

  Result<std::vector<Reply>> pipeline(const std::vector<std::vector<std::string>>& commands) {
    if (over) return tl::unexpected(*over);
    Result<std::vector<Reply>> replies = exchange(commands);
    if (!replies) {
      if (reader.bytes_fed() == 0 && !address.tls && replies.error().hint.empty()) replies.error().hint = kTlsHint;
      // A reply that comes late would be taken for that of the next command.
      over = replies.error();
      transport.close();
    }
    return replies;
  }

  Result<std::vector<Reply>> exchange(const std::vector<std::vector<std::string>>& commands) {
    SteadyTime deadline = std::chrono::steady_clock::now() + options.command_timeout;
    std::string out;
    for (const std::vector<std::string>& arguments : commands) {
      append_command_head(out, arguments.size());
      for (const std::string& argument : arguments) append_argument(out, argument);
    }
    std::size_t written = 0;
    std::string in;
    std::vector<Reply> replies;
    while (replies.size() < commands.size()) {
      if (written < out.size()) {
        auto taken = transport.write(std::string_view(out).substr(written));
        if (!taken) return tl::unexpected(taken.error());
        written += *taken;
      }
      in.clear();
      auto got = transport.read(in, 64 * 1024);
      if (!got) return tl::unexpected(got.error());
      reader.feed(in);
      const std::size_t before = replies.size();
      while (replies.size() < commands.size()) {
        auto reply = reader.next();
        if (!reply) return tl::unexpected(reply.error());
        if (!reply->has_value()) break;
        replies.push_back(std::move(**reply));
      }
      if (replies.size() == commands.size()) break;
      if (replies.size() > before) deadline = std::chrono::steady_clock::now() + options.command_timeout;
      if (!wait(deadline, written < out.size())) return timed_out("reply");
    }
    return replies;
  }

  Result<Reply> command(const std::vector<std::string>& arguments) {
    Result<std::vector<Reply>> replies = pipeline({arguments});
    if (!replies) return tl::unexpected(replies.error());
    return std::move(replies->front());
  }

  Result<void> require(const std::vector<std::string>& arguments) {
    auto reply = command(arguments);
    if (!reply) return tl::unexpected(reply.error());
    if (reply->is_error()) return tl::unexpected(redis_error(reply->text));
    return {};
  }

  Result<void> sign_in() {
    if (!address.password.empty() || !address.user.empty()) {
      std::vector<std::string> arguments = {"AUTH", address.password};
      if (!address.user.empty()) arguments.insert(arguments.begin() + 1, address.user);
      if (auto done = require(arguments); !done) return done;
    }
    if (address.database != 0) return require({"SELECT", std::to_string(address.database)});
    // Asks for nothing but whether we are let in: a user without the right to it is.
    auto reply = command({"PING"});
    if (!reply) return tl::unexpected(reply.error());
    if (reply->is_error() && !reply->text.starts_with("NOPERM")) return tl::unexpected(redis_error(reply->text));
    return {};
  }
};

Result<HostPort> ask_sentinels(const RedisOptions& options) {
  auto address = parse_redis_url(options.url);
  if (!address) return tl::unexpected(std::move(address.error()));
  SentinelLink link(sentinel_options(options, *address));
  link.find(std::chrono::steady_clock::now());
  bool is_confirmed = options.sentinels.size() == 1;
  while (true) {
    link.step(std::chrono::steady_clock::now());
    if (link.state() == SentinelLink::State::kFailed) return tl::unexpected(link.error());
    if (link.state() == SentinelLink::State::kFound) {
      if (is_confirmed) return link.master();
      is_confirmed = true;
      link.confirm(std::chrono::steady_clock::now());
    }
    Waiting waiting;
    link.wait_for(waiting);
    wait_for_any(waiting);
  }
}

BlockingClient::BlockingClient() = default;
BlockingClient::~BlockingClient() = default;

Result<std::unique_ptr<BlockingClient>> BlockingClient::open(const RedisOptions& options) {
  auto addresses = parse_redis_urls(options.url);
  if (!addresses) return tl::unexpected(std::move(addresses.error()));
  // Of several, nodes of one cluster: whichever answers.
  for (std::size_t i = 0; i + 1 < addresses->size(); ++i) {
    auto client = open(options, HostPort{(*addresses)[i].host, (*addresses)[i].port});
    if (client) return client;
  }
  return open(options, std::nullopt);
}

Result<std::unique_ptr<BlockingClient>> BlockingClient::open(const RedisOptions& options, const std::optional<HostPort>& node) {
  auto addresses = parse_redis_urls(options.url);
  if (!addresses) return tl::unexpected(std::move(addresses.error()));
  Result<RedisAddress> address = std::move(addresses->back());
  if (node) {
    address->host = node->host;
    address->port = node->port;
    address->socket_path.clear();
  } else if (!options.sentinels.empty()) {
    const auto master = ask_sentinels(options);
    if (!master) return tl::unexpected(master.error());
    address->host = master->host;
    address->port = master->port;
  }
  std::unique_ptr<BlockingClient> client(new BlockingClient());
  client->impl_ = std::make_unique<Impl>(std::move(*address), options);
  if (options.credential.is_set()) {
    auto credential = ask_credential(options.credential);
    if (!credential) return tl::unexpected(std::move(credential.error()));
    client->impl_->address.password = credential->password.reveal();
  }
  if (auto connected = client->impl_->connect(); !connected) {
    Error error = std::move(connected.error());
    if (node || !options.sentinels.empty()) tell_whose_address(error, node ? kNodesAddressHint : kSentinelsAddressHint);
    return tl::unexpected(std::move(error));
  }
  if (auto signed_in = client->impl_->sign_in(); !signed_in) {
    Error error = std::move(signed_in.error());
    if (options.credential.is_set()) error.hint = password_hint(options.credential);
    return tl::unexpected(std::move(error));
  }
  return client;
}

Result<Reply> BlockingClient::command(const std::vector<std::string>& arguments) {
  return impl_->command(arguments);
}

Result<std::vector<Reply>> BlockingClient::pipeline(const std::vector<std::vector<std::string>>& commands) {
  return impl_->pipeline(commands);
}

const RedisAddress& BlockingClient::address() const { return impl_->address; }

}  // namespace evictd
