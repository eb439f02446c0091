// The Redis sink: daemon/interface/sink.h over one pipelined connection to Redis or Valkey.
//
// How it is made, from the wire inwards:
//   topology/     which server it is that is connected to; of a cluster: who has which slot
//   transport.h   one non-blocking socket, with TLS when asked for; name lookup that does not block
//   resp.h        commands to bytes, bytes to replies
//   replies.h     what each reply must look like before it is believed
//   session.h     the state machine of one connection: sign-in, inspection, matching replies to commands
//   redis_work.h  what a Command becomes: script calls; walk.h: walks of tags; patterns.h: walks of patterns
//   witness.h     whether its replicas have what was written there
//   redis_sink    reconnection, timeouts, limits, and the SinkHandler's calls, for one server (node_sink.h)
//   cluster/      many of them as one sink
// Only transport.cpp knows sockets and OpenSSL.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/interface/sink.h"
#include "daemon/net/credential.h"
#include "daemon/sinks/redis/topology/sentinel.h"
#include "mapping/error.h"

namespace evictd {

struct RedisOptions {
  // redis://[user[:password]@]host[:port][,host[:port]...][/database], rediss:// for TLS, unix:///path[?db=n].
  std::string url;
  CredentialSource credential;  // of the password, when it is not in `url`
  // Sentinels that tell where the master is; the host of `url` is its name then. Empty: `url` says where it is.
  std::vector<HostPort> sentinels = {};
  std::string sentinel_password = {};
  // How long a tombstone lives after its transaction became visible.
  std::chrono::milliseconds tombstone_ttl{60'000};
  // Added to it: an invalidation is applied before we know of the visibility, never long after.
  std::chrono::milliseconds tombstone_margin = kTombstoneMargin;

  std::chrono::milliseconds connect_timeout{5'000};
  // No reply for this long while something is under way: the connection is given up.
  std::chrono::milliseconds command_timeout{5'000};
  std::chrono::milliseconds backoff_first{100};
  std::chrono::milliseconds backoff_max{5'000};

  // Limits (G8).
  std::size_t commands_max = 64;               // submitted and not ended, walks of patterns apart
  std::size_t bulk_max = 4;                     // of them, walks of patterns, which have a room of their own
  std::size_t under_way_bytes_max = 512 * 1024;  // of them, as Texts::bytes(): what Redis may have to do, walks apart
  std::size_t output_bytes_max = 1024 * 1024;  // written by us, not yet taken by the socket
  std::size_t walks_max = 16;                  // tags and patterns being walked at the same time
  std::size_t page_keys = 256;                 // keys of one page of a walk
  // A walk of large sets or patterns takes at most this share of Redis's time (0.0 to 1.0).
  double walk_share = 0.5;

  // Whether some rule may touch this key, by the rules of the moment; empty: any. Members of a tag's set are asked for:
  // whoever may write the set may name any key of Redis there. Called in the loop thread, for each member.
  std::function<bool(std::string_view key)> may_touch;

  // A record is confirmed when so many replicas of the server have it; 0: when it is stored.
  std::size_t replicas_ack = 0;
  // Until those that are missing are told of.
  std::chrono::milliseconds replicas_timeout{1'000};

  // Which record this evictd owns: the slot name (letters, digits, '_', '-').
  std::string record_name = "evictd";
  // Not empty: this is but the store of the record of another cache, of that name, which has no place for one.
  std::string record_of;
  std::string client_name = "evictd";

  // rediss:// only. Empty ca_file: the system's certificates.
  std::string tls_ca_file;
  std::string tls_cert_file;
  std::string tls_key_file;
};

// For a person whose password was refused: where it came from.
std::string password_hint(const CredentialSource& credential);

// How the Sentinels of `options` are asked; `address` is its url.
struct SentinelOptions;
struct RedisAddress;
SentinelOptions sentinel_options(const RedisOptions& options, const RedisAddress& address);

// The Redis key of a record: of this cache, or of another one that it keeps the record for.
std::string record_key(const std::string& record_name, const std::string& of = {});

// kUsage when the url cannot be read; the text never shows the password.
Result<std::unique_ptr<Sink>> make_redis_sink(RedisOptions options);

}  // namespace evictd
