// What an error reply of Redis means for us: the class it is counted under, and what to do.
//
//   class          begins with             what it says                              what we do
//   loading        LOADING                 reading its data after a restart          wait
//   busy           BUSY                    somebody's script runs too long           wait
//   master_down    MASTERDOWN              a replica without its master              wait
//   no_replicas    NOREPLICAS              fewer replicas than it must have          wait
//   misconf        MISCONF                 cannot save its snapshot, refuses writes  wait
//   oom            OOM                     full, refuses even this                   wait
//   try_again      TRYAGAIN, CLUSTERDOWN   cluster in motion                         wait
//   read_only      READONLY                became a replica                          reconnect
//   clients        max number of clients   no connection left for us                 reconnect
//   protected      DENIED                  protected mode                            reconnect
//   auth           NOAUTH, WRONGPASS, ...  wrong user or password                    a person must act
//   noperm         NOPERM, ...             the ACL forbids a command or key          a person must act
//   unknown_command  ERR unknown command   it was renamed, or never was          a person must act
//   database       ERR DB index            the url's database is not there           a person must act
//   cluster        MOVED, ASK, CROSSSLOT   a node of a Redis Cluster (cluster/)      a person must act
//   noscript       NOSCRIPT                scripts were flushed                      load again, send again
//   other          anything else                                                     reconnect
#pragma once

#include <string_view>

#include "mapping/error.h"

namespace evictd {

enum class RedisAction { kWait, kReconnect, kPerson, kReload };

struct RedisErrorClass {
  std::string_view name;  // label of evictd_redis_errors_total; static
  RedisAction action = RedisAction::kReconnect;
};

RedisErrorClass classify_redis_error(std::string_view reply);

// The ACL keeps us from a key that was named as a KEY of the call (not from the command, nor from within a script).
bool is_key_forbidden(std::string_view reply);

// A person must act, and may act on Redis alone (a password that is rotated, an ACL that is being written): our
// configuration need not change, so that waiting helps, at the start too.
bool is_passing_refusal(std::string_view error_class);

// The reply as an Error, with what helps. kUsage when a person must act, otherwise kConnection.
Error redis_error(std::string_view reply);

// Of a connection that ends before a byte has come.
inline constexpr std::string_view kTlsHint = "it said nothing at all; if this port speaks TLS, write 'rediss://' in 'redis: url:'";
inline constexpr std::string_view kSeveralAddressesHint = "several addresses are those of one cluster's nodes; one server has one address";
// Of a connection whose TLS handshake is not answered.
inline constexpr std::string_view kNoTlsHint = "is this port a TLS port? 'rediss://' is for those only";

// Classes that no reply stands for.
inline constexpr std::string_view kClassConnection = "connection";
inline constexpr std::string_view kClassTimeout = "timeout";
inline constexpr std::string_view kClassProtocol = "protocol";
inline constexpr std::string_view kClassTls = "tls";
inline constexpr std::string_view kClassAuth = "auth";  // also of a reply: no password could be had
inline constexpr std::string_view kClassUnknownCommand = "unknown_command";
inline constexpr std::string_view kClassCluster = "cluster";
inline constexpr std::string_view kClassSentinels = "sentinels";  // none tells where the master is
inline constexpr std::string_view kClassMoved = "moved";  // another server is the master now
inline constexpr std::string_view kClassSetBack = "set_back";  // the data was exchanged under an open connection

}  // namespace evictd
