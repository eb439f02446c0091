// A Redis in memory, as far as evictd and its readers use one: strings, sets and sorted sets with lifetimes, cursors, MULTI,
// scripts and functions. It runs the Lua that evictd sends, in Lua 5.1 as Redis does, so that a simulation need not write
// the protocol of markers down a second time. Time is given, never read.
//
// memory_redis_test.cpp holds it against a real redis-server: commands at random and evictd's own scripts, replies equal.
// What it does not know ends the program with its name: it never answers by guessing.
//
// One thread. Lua is shared by all servers of the thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "daemon/sinks/redis/resp.h"

struct lua_State;

namespace evictd::testing {

class MemoryRedis {
 public:
  using Arguments = std::vector<std::string>;
  using Set = std::set<std::string>;
  using SortedSet = std::map<std::string, double>;
  struct Value {
    std::variant<std::string, Set, SortedSet> data;
    std::int64_t expires_ms = 0;  // by the server's clock; 0: never
  };
  // What outlives the process: what a dump holds.
  struct Data {
    std::map<std::string, Value> keys;
    std::string library;  // of functions; empty: none
  };
  // What the server knows of one connection.
  struct Client {
    bool in_multi = false;
    bool is_spoiled = false;  // something could not be queued
    std::vector<Arguments> queued;
  };

  // `seed` decides the order of cursors.
  explicit MemoryRedis(std::uint64_t seed);
  ~MemoryRedis();
  MemoryRedis(const MemoryRedis&) = delete;
  MemoryRedis& operator=(const MemoryRedis&) = delete;

  void set_time(std::chrono::microseconds now) { now_ = now; }
  Reply execute(Client& client, const Arguments& arguments);

  // Another process: scripts are forgotten, cursors mean nothing any more, functions are those of the data.
  void restart(Data data);
  // The same process and connections, with other keys: FLUSHDB, SWAPDB, a dump that is loaded.
  void exchange(Data data) { data_.keys = std::move(data.keys); }
  const Data& data() const { return data_; }
  const std::string& run_id() const { return run_id_; }
  // Whether a key is there now.
  const Value* look(const std::string& key) const;

  // COUNT is a hint: no page of a cursor is longer than this. Sets may be returned in pages however small they are.
  std::size_t page_max = 1000;
  // Told of each SCAN, SSCAN and ZSCAN that is not at its end.
  std::function<void()> on_cut_off;

 private:
  friend class LuaEngine;
  struct Function {
    int reference = 0;  // in Lua's registry
    bool is_read_only = false;
  };
  using Handler = Reply (MemoryRedis::*)(const Arguments&);
  struct Command {
    Handler handler;
    int arity;  // as in Redis: the name counts; negative: at least
    bool writes;
  };
  static const std::unordered_map<std::string_view, Command>& commands();
  static const Command* find_command(const Arguments& arguments);

  Reply call(const Arguments& arguments, bool from_script, bool is_read_only);
  Value* find(const std::string& key);
  template <typename T>
  T* find_as(const std::string& key, Reply& wrong);
  template <typename T>
  T* make_as(const std::string& key, Reply& wrong);
  std::int64_t now_ms() const { return std::chrono::duration_cast<std::chrono::milliseconds>(now_).count(); }
  std::uint64_t place(const std::string& name) const;
  template <typename Each>
  Reply scan(const std::vector<std::string>& names, const Arguments& arguments, std::size_t cursor_at, const Each& each);
  Reply expire_at(const Arguments& arguments, std::int64_t at_ms);
  Reply add(const std::string& key, std::int64_t by);
  Reply load_script(const std::string& text);
  void load_library(const std::string& text, Reply& reply);
  void forget_functions();

  Reply get(const Arguments&);
  Reply mget(const Arguments&);
  Reply getrange(const Arguments&);
  Reply set(const Arguments&);
  Reply unlink(const Arguments&);
  Reply exists(const Arguments&);
  Reply type(const Arguments&);
  Reply pttl(const Arguments&);
  Reply pexpire(const Arguments&);
  Reply pexpireat(const Arguments&);
  Reply persist(const Arguments&);
  Reply incr(const Arguments&);
  Reply incrby(const Arguments&);
  Reply sadd(const Arguments&);
  template <typename Members>
  Reply remove_members(const Arguments& a);
  Reply srem(const Arguments&);
  Reply smembers(const Arguments&);
  Reply sscan(const Arguments&);
  Reply zadd(const Arguments&);
  Reply zrem(const Arguments&);
  Reply zrange(const Arguments&);
  Reply zrangebyscore(const Arguments&);
  Reply zremrangebyscore(const Arguments&);
  Reply zremrangebyrank(const Arguments&);
  Reply zscan(const Arguments&);
  Reply scan_keys(const Arguments&);
  Reply time(const Arguments&);
  Reply publish(const Arguments&);
  Reply info(const Arguments&);
  Reply client_command(const Arguments&);
  Reply script_command(const Arguments&);
  Reply eval(const Arguments&);
  Reply evalsha(const Arguments&);
  Reply function_command(const Arguments&);
  Reply fcall(const Arguments&);

  Data data_;
  std::chrono::microseconds now_{0};
  std::uint64_t seed_;
  std::uint64_t process_ = 0;
  std::string run_id_;
  std::unordered_map<std::string, int> scripts_;  // sha1 -> the compiled text, in Lua's registry
  std::map<std::string, Function> functions_;
};

// 40 hex digits.
std::string sha1_of(std::string_view text);
// As Redis's MATCH has it.
bool glob_matches(std::string_view glob, std::string_view name);
// RESP2.
void append_reply(std::string& out, const Reply& reply);

}  // namespace evictd::testing
