// A network of servers in memory, and the sink's Transport over it: memory_network.cpp defines that class, and is linked
// before the room's library, where it takes the socket's place. So all of the sink but its socket is the daemon's own: how
// it connects, signs in, builds commands, reads replies, walks, gives up and begins anew.
//
// What is written is in the server's hands and is carried out at its next turn, also when the writer is gone by then, as with
// a real socket. Nothing here reads a clock.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <random>
#include <string>

#include "tests/simulation/memory_redis.h"

namespace evictd::testing {

// One connection. Both ends have it.
struct MemoryLink {
  std::string to_server;
  std::string to_client;
  MemoryRedis::Client client;
  bool is_open = false;       // the server has taken it
  bool is_refused = false;    // the server is away
  bool is_cut = false;        // to the client it is broken: neither end reads the other any more
  bool is_left = false;       // the client has closed it, or seen that it is cut; what it had written is still carried out
};

// One server and its connections.
class MemoryServer {
 public:
  explicit MemoryServer(std::uint64_t seed) : redis(seed), random_(seed) {}

  MemoryRedis redis;

  // ---- Faults
  bool is_up = true;        // away: refuses, and what is open is cut
  bool is_frozen = false;   // takes what is written, does nothing
  std::size_t commands_per_turn = 64;
  bool tears = false;       // bytes come in pieces of any size
  // Told of each command that was carried out.
  std::function<void(const MemoryRedis::Arguments&)> on_carried_out;
  // Breaks every connection after carrying out so many of the commands that are there; the others are carried out at a later
  // turn, or never.
  void cut(std::size_t carry_out_first, bool loses_the_rest);
  // Another process, with that data. Whatever was on its way is lost.
  void restart(MemoryRedis::Data data);

  // A bounded piece of work on all connections.
  void turn();

  std::shared_ptr<MemoryLink> connect();
  // How many bytes pass at once.
  std::size_t piece(std::size_t most);

 private:
  bool carry_out_one(MemoryLink& link);

  std::list<std::shared_ptr<MemoryLink>> links_;
  std::mt19937_64 random_;
};

// Servers by the host of their url. The transports of this thread look here; servers must outlive them.
std::map<std::string, MemoryServer*>& memory_network();

}  // namespace evictd::testing
