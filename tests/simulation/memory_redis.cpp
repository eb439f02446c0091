#include "tests/simulation/memory_redis.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <lua.hpp>
#include <optional>
#include <tl/expected.hpp>

namespace evictd::testing {
namespace {

constexpr const char* kWrongType = "WRONGTYPE Operation against a key holding the wrong kind of value";
constexpr const char* kNoInteger = "ERR value is not an integer or out of range";
constexpr const char* kSyntax = "ERR syntax error";

[[noreturn]] void unknown(std::string_view what) {
  std::fprintf(stderr, "memory redis: '%.*s' is not known here: teach it, and tests/simulation/memory_redis_test.cpp\n",
               static_cast<int>(what.size()), what.data());
  std::abort();
}

Reply status(std::string text) { return {Reply::Kind::kStatus, 0, std::move(text), {}}; }
Reply failed(std::string text) { return {Reply::Kind::kError, 0, std::move(text), {}}; }
Reply number(std::int64_t value) { return {Reply::Kind::kInteger, value, {}, {}}; }
Reply text_of(std::string text) { return {Reply::Kind::kText, 0, std::move(text), {}}; }
Reply nil() { return {}; }
Reply array(std::vector<Reply> elements) { return {Reply::Kind::kArray, 0, {}, std::move(elements)}; }
Reply ok() { return status("OK"); }

std::string upper(std::string_view text) {
  std::string made(text);
  for (char& c : made) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  return made;
}
std::string lower(std::string_view text) {
  std::string made(text);
  for (char& c : made) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return made;
}

// As strictly as Redis: no sign but one minus, no leading zeros.
std::optional<std::int64_t> integer_of(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || std::to_string(value) != text) return std::nullopt;
  return value;
}

std::string score_text(double score) {
  if (std::isinf(score)) return score > 0 ? "inf" : "-inf";
  return fmt::format("{:.17g}", score);
}

std::optional<double> score_of(std::string text) {
  if (text.empty() || std::isspace(static_cast<unsigned char>(text.front()))) return std::nullopt;
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (*end != '\0' || std::isnan(value)) return std::nullopt;
  return value;
}

struct Bound {
  double value = 0;
  bool is_open = false;
};
std::optional<Bound> bound_of(const std::string& text) {
  const bool is_open = text.starts_with('(');
  const auto value = score_of(is_open ? text.substr(1) : text);
  if (!value) return std::nullopt;
  return Bound{*value, is_open};
}

using Ranked = std::vector<std::pair<double, std::string>>;
Ranked ranked(const MemoryRedis::SortedSet& set) {
  Ranked all;
  for (const auto& [member, score] : set) all.emplace_back(score, member);
  std::sort(all.begin(), all.end());
  return all;
}

// First and last of a range by rank, as Redis counts it; empty: none.
std::optional<std::pair<std::size_t, std::size_t>> ranks(std::int64_t first, std::int64_t last, std::size_t size) {
  const auto count = static_cast<std::int64_t>(size);
  if (first < 0) first = std::max<std::int64_t>(first + count, 0);
  if (last < 0) last += count;
  last = std::min(last, count - 1);
  if (first > last || first >= count) return std::nullopt;
  return std::pair(static_cast<std::size_t>(first), static_cast<std::size_t>(last));
}

}  // namespace

std::string sha1_of(std::string_view text) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int length = 0;
  if (EVP_Digest(text.data(), text.size(), digest, &length, EVP_sha1(), nullptr) != 1) std::abort();
  std::string hex;
  for (unsigned int i = 0; i < length; ++i) hex += fmt::format("{:02x}", digest[i]);
  return hex;
}

bool glob_matches(std::string_view glob, std::string_view name) {
  while (!glob.empty()) {
    const char c = glob.front();
    if (c == '*') {
      for (std::size_t skip = 0; skip <= name.size(); ++skip) {
        if (glob_matches(glob.substr(1), name.substr(skip))) return true;
      }
      return false;
    }
    if (name.empty()) return false;
    std::size_t used = 1;
    if (c == '[') {
      const bool is_not = glob.size() > 1 && glob[1] == '^';
      std::size_t at = is_not ? 2 : 1;
      bool found = false;
      for (; at < glob.size() && glob[at] != ']'; ++at) {
        if (glob[at] == '\\' && at + 1 < glob.size()) {
          found |= glob[++at] == name.front();
        } else if (at + 2 < glob.size() && glob[at + 1] == '-') {
          const auto [low, high] = std::minmax({static_cast<unsigned char>(glob[at]), static_cast<unsigned char>(glob[at + 2])});
          const auto byte = static_cast<unsigned char>(name.front());
          found |= byte >= low && byte <= high;
          at += 2;
        } else {
          found |= glob[at] == name.front();
        }
      }
      if (found == is_not) return false;
      used = std::min(at + 1, glob.size());
    } else if (c == '\\' && glob.size() > 1) {
      if (glob[1] != name.front()) return false;
      used = 2;
    } else if (c != '?' && c != name.front()) {
      return false;
    }
    glob.remove_prefix(used);
    name.remove_prefix(1);
  }
  return name.empty();
}

void append_reply(std::string& out, const Reply& reply) {
  switch (reply.kind) {
    case Reply::Kind::kStatus:
      out += "+" + reply.text + "\r\n";
      break;
    case Reply::Kind::kError:
      out += "-" + reply.text + "\r\n";
      break;
    case Reply::Kind::kInteger:
      out += ":" + std::to_string(reply.integer) + "\r\n";
      break;
    case Reply::Kind::kText:
      out += "$" + std::to_string(reply.text.size()) + "\r\n" + reply.text + "\r\n";
      break;
    case Reply::Kind::kNil:
      out += "$-1\r\n";
      break;
    case Reply::Kind::kArray:
      out += "*" + std::to_string(reply.elements.size()) + "\r\n";
      for (const Reply& element : reply.elements) append_reply(out, element);
      break;
    case Reply::Kind::kTooLong:
      unknown("a reply that is too long");
  }
}

// ---------------------------------------------------------------------------------------------------------------- Lua

// One interpreter for all servers of a thread: what it keeps is compiled texts alone.
class LuaEngine {
 public:
  static LuaEngine& current() {
    static thread_local LuaEngine engine;
    return engine;
  }

  lua_State* lua() { return lua_; }

  // Calls what is on the stack above `arguments` arguments, in the name of `redis`.
  Reply run(MemoryRedis& redis, int arguments, bool is_read_only) {
    MemoryRedis* const outer = redis_;
    redis_ = &redis;
    is_read_only_ = is_read_only;
    const int failure = lua_pcall(lua_, arguments, 1, 0);
    redis_ = outer;
    Reply reply = failure != 0 ? error_of_top() : take_reply(-1);
    lua_pop(lua_, 1);
    return reply;
  }

  // Where the compiled text is in the registry; an error reply when it does not compile. Kept for ever: there are few texts.
  tl::expected<int, Reply> compile(const std::string& text, const char* name) {
    if (const auto known = compiled_.find(text); known != compiled_.end()) return known->second;
    if (luaL_loadbuffer(lua_, text.data(), text.size(), name) != 0) {
      Reply reply = failed(std::string("ERR Error compiling script: ") + lua_tostring(lua_, -1));
      lua_pop(lua_, 1);
      return tl::unexpected(std::move(reply));
    }
    return compiled_[text] = luaL_ref(lua_, LUA_REGISTRYINDEX);
  }
  void push(int reference) { lua_rawgeti(lua_, LUA_REGISTRYINDEX, reference); }

  void push_list(const MemoryRedis::Arguments& arguments, std::size_t first, std::size_t last) {
    lua_createtable(lua_, static_cast<int>(last - first), 0);
    for (std::size_t i = first; i < last; ++i) {
      lua_pushlstring(lua_, arguments[i].data(), arguments[i].size());
      lua_rawseti(lua_, -2, static_cast<int>(i - first + 1));
    }
  }

  // Sets a global of scripts from the top of the stack.
  void set_global(const char* name) {
    lua_pushstring(lua_, name);
    lua_insert(lua_, -2);
    lua_rawset(lua_, LUA_GLOBALSINDEX);
  }

  MemoryRedis* loading = nullptr;  // the server whose library is being loaded

 private:
  LuaEngine() : lua_(luaL_newstate()) {
    for (const auto& [name, open] : {std::pair<const char*, lua_CFunction>{"", luaopen_base},
                                     {LUA_TABLIBNAME, luaopen_table},
                                     {LUA_STRLIBNAME, luaopen_string},
                                     {LUA_MATHLIBNAME, luaopen_math}}) {
      lua_pushcfunction(lua_, open);
      lua_pushstring(lua_, name);
      lua_call(lua_, 1, 0);
    }
    for (const char* name : {"loadfile", "dofile", "print"}) {
      lua_pushnil(lua_);
      lua_setglobal(lua_, name);
    }
    const luaL_Reg redis[] = {{"call", call}, {"pcall", protected_call}, {"error_reply", error_reply},
                              {"status_reply", status_reply}, {"sha1hex", sha1hex}, {"register_function", register_function},
                              {nullptr, nullptr}};
    luaL_register(lua_, "redis", redis);
    lua_pushinteger(lua_, 0x07000f);
    lua_setfield(lua_, -2, "REDIS_VERSION_NUM");
    lua_pop(lua_, 1);
    const luaL_Reg cjson[] = {{"encode", encode}, {nullptr, nullptr}};
    luaL_register(lua_, "cjson", cjson);
    lua_pop(lua_, 1);
    // As in Redis: neither an unknown global nor a new one passes.
    lua_newtable(lua_);
    lua_pushcfunction(lua_, no_such_global);
    lua_setfield(lua_, -2, "__index");
    lua_pushcfunction(lua_, no_new_global);
    lua_setfield(lua_, -2, "__newindex");
    lua_setmetatable(lua_, LUA_GLOBALSINDEX);
  }
  ~LuaEngine() { lua_close(lua_); }

  static LuaEngine& engine() { return current(); }

  static int no_such_global(lua_State* lua) {
    return luaL_error(lua, "Script attempted to access nonexistent global variable '%s'", lua_tostring(lua, 2));
  }
  static int no_new_global(lua_State* lua) { return luaL_error(lua, "Attempt to modify a readonly table"); }

  static int call(lua_State* lua) { return call_redis(lua, true); }
  static int protected_call(lua_State* lua) { return call_redis(lua, false); }
  static int call_redis(lua_State* lua, bool raises) {
    // Nothing with a destructor may be alive when Lua jumps.
    bool is_error = false;
    {
      LuaEngine& self = engine();
      if (self.redis_ == nullptr) unknown("redis.call while a library is loaded");
      MemoryRedis::Arguments arguments;
      for (int i = 1; i <= lua_gettop(lua); ++i) {
        if (lua_type(lua, i) == LUA_TNUMBER) {
          arguments.push_back(fmt::format("{:.17g}", static_cast<double>(lua_tonumber(lua, i))));
        } else if (lua_type(lua, i) == LUA_TSTRING) {
          std::size_t length = 0;
          const char* text = lua_tolstring(lua, i, &length);
          arguments.emplace_back(text, length);
        } else {
          arguments.clear();
          break;
        }
      }
      const Reply reply = arguments.empty() ? failed("ERR Lua redis lib command arguments must be strings or integers")
                                            : self.redis_->call(arguments, true, self.is_read_only_);
      is_error = reply.is_error();
      self.push_reply(reply);
    }
    if (is_error && raises) return lua_error(lua);
    return 1;
  }
  static int one_field(lua_State* lua, const char* field) {
    luaL_checkstring(lua, 1);
    lua_newtable(lua);
    lua_pushvalue(lua, 1);
    lua_setfield(lua, -2, field);
    return 1;
  }
  static int error_reply(lua_State* lua) { return one_field(lua, "err"); }
  static int status_reply(lua_State* lua) { return one_field(lua, "ok"); }
  static int sha1hex(lua_State* lua) {
    std::size_t length = 0;
    const char* text = luaL_checklstring(lua, 1, &length);
    {
      const std::string hex = sha1_of({text, length});
      lua_pushlstring(lua, hex.data(), hex.size());
    }
    return 1;
  }
  // Strings are all that evictd encodes.
  static int encode(lua_State* lua) {
    if (lua_type(lua, 1) != LUA_TSTRING) unknown("cjson.encode of anything but a string");
    std::size_t length = 0;
    const char* text = lua_tolstring(lua, 1, &length);
    {
      std::string made = "\"";
      for (const char c : std::string_view(text, length)) {
        switch (c) {
          case '"': made += "\\\""; break;
          case '\\': made += "\\\\"; break;
          case '/': made += "\\/"; break;
          case '\b': made += "\\b"; break;
          case '\f': made += "\\f"; break;
          case '\n': made += "\\n"; break;
          case '\r': made += "\\r"; break;
          case '\t': made += "\\t"; break;
          default:
            if (static_cast<unsigned char>(c) < 32 || c == 127) {
              made += fmt::format("\\u{:04x}", static_cast<unsigned char>(c));
            } else {
              made += c;
            }
        }
      }
      made += '"';
      lua_pushlstring(lua, made.data(), made.size());
    }
    return 1;
  }
  static int register_function(lua_State* lua) {
    {
      LuaEngine& self = engine();
      if (self.loading == nullptr) unknown("redis.register_function outside of a library");
      MemoryRedis::Function made;
      lua_getfield(lua, 1, "function_name");
      const std::string name = lua_tostring(lua, -1);
      lua_getfield(lua, 1, "flags");
      if (lua_istable(lua, -1)) {
        for (int i = 1; i <= static_cast<int>(lua_objlen(lua, -1)); ++i) {
          lua_rawgeti(lua, -1, i);
          made.is_read_only |= std::string_view(lua_tostring(lua, -1)) == "no-writes";
          lua_pop(lua, 1);
        }
      }
      lua_getfield(lua, 1, "callback");
      made.reference = luaL_ref(lua, LUA_REGISTRYINDEX);
      self.loading->functions_[name] = made;
    }
    return 0;
  }

  void push_reply(const Reply& reply) {
    switch (reply.kind) {
      case Reply::Kind::kStatus:
      case Reply::Kind::kError:
        lua_newtable(lua_);
        lua_pushlstring(lua_, reply.text.data(), reply.text.size());
        lua_setfield(lua_, -2, reply.is_error() ? "err" : "ok");
        break;
      case Reply::Kind::kInteger:
        lua_pushnumber(lua_, static_cast<lua_Number>(reply.integer));
        break;
      case Reply::Kind::kText:
        lua_pushlstring(lua_, reply.text.data(), reply.text.size());
        break;
      case Reply::Kind::kNil:
        lua_pushboolean(lua_, 0);
        break;
      case Reply::Kind::kArray:
        lua_createtable(lua_, static_cast<int>(reply.elements.size()), 0);
        for (std::size_t i = 0; i < reply.elements.size(); ++i) {
          push_reply(reply.elements[i]);
          lua_rawseti(lua_, -2, static_cast<int>(i + 1));
        }
        break;
      case Reply::Kind::kTooLong:
        unknown("a reply that is too long");
    }
  }

  std::optional<std::string> field(int index, const char* name) {
    lua_pushstring(lua_, name);
    lua_rawget(lua_, index < 0 ? index - 1 : index);
    std::optional<std::string> found;
    if (lua_type(lua_, -1) == LUA_TSTRING) {
      std::size_t length = 0;
      const char* text = lua_tolstring(lua_, -1, &length);
      found.emplace(text, length);
    }
    lua_pop(lua_, 1);
    return found;
  }

  Reply take_reply(int index) {
    switch (lua_type(lua_, index)) {
      case LUA_TSTRING: {
        std::size_t length = 0;
        const char* text = lua_tolstring(lua_, index, &length);
        return text_of({text, length});
      }
      case LUA_TNUMBER:
        return number(static_cast<std::int64_t>(lua_tonumber(lua_, index)));
      case LUA_TBOOLEAN:
        return lua_toboolean(lua_, index) != 0 ? number(1) : nil();
      case LUA_TTABLE: {
        if (auto error = field(index, "err")) return failed(*error);
        if (auto done = field(index, "ok")) return status(*done);
        std::vector<Reply> elements;
        for (int i = 1;; ++i) {
          lua_rawgeti(lua_, index, i);
          if (lua_isnil(lua_, -1)) break;
          elements.push_back(take_reply(-1));
          lua_pop(lua_, 1);
        }
        lua_pop(lua_, 1);
        return array(std::move(elements));
      }
      default:
        return nil();
    }
  }

  Reply error_of_top() {
    if (lua_istable(lua_, -1)) {
      if (auto error = field(-1, "err")) return failed(*error);
    }
    const char* text = lua_tostring(lua_, -1);
    return failed(std::string("ERR ") + (text == nullptr ? "unknown error" : text));
  }

  lua_State* lua_;
  std::unordered_map<std::string, int> compiled_;
  MemoryRedis* redis_ = nullptr;
  bool is_read_only_ = false;
};

// ------------------------------------------------------------------------------------------------------------- Server

MemoryRedis::MemoryRedis(std::uint64_t seed) : seed_(seed) { restart({}); }

MemoryRedis::~MemoryRedis() { forget_functions(); }

void MemoryRedis::forget_functions() {
  for (const auto& [name, function] : functions_) luaL_unref(LuaEngine::current().lua(), LUA_REGISTRYINDEX, function.reference);
  functions_.clear();
}

void MemoryRedis::restart(Data data) {
  data_ = std::move(data);
  ++process_;
  run_id_ = fmt::format("{:020x}{:020x}", seed_, process_);
  scripts_.clear();
  forget_functions();
  if (data_.library.empty()) return;
  Reply reply;
  load_library(data_.library, reply);
}

const std::unordered_map<std::string_view, MemoryRedis::Command>& MemoryRedis::commands() {
  using R = MemoryRedis;
  static const std::unordered_map<std::string_view, Command> all = {
      {"GET", {&R::get, 2, false}},
      {"MGET", {&R::mget, -2, false}},
      {"GETRANGE", {&R::getrange, 4, false}},
      {"SET", {&R::set, -3, true}},
      {"UNLINK", {&R::unlink, -2, true}},
      {"DEL", {&R::unlink, -2, true}},
      {"EXISTS", {&R::exists, -2, false}},
      {"TYPE", {&R::type, 2, false}},
      {"PTTL", {&R::pttl, 2, false}},
      {"PEXPIRE", {&R::pexpire, -3, true}},
      {"PEXPIREAT", {&R::pexpireat, -3, true}},
      {"PERSIST", {&R::persist, 2, true}},
      {"INCR", {&R::incr, 2, true}},
      {"INCRBY", {&R::incrby, 3, true}},
      {"SADD", {&R::sadd, -3, true}},
      {"SREM", {&R::srem, -3, true}},
      {"SMEMBERS", {&R::smembers, 2, false}},
      {"SSCAN", {&R::sscan, -3, false}},
      {"ZADD", {&R::zadd, -4, true}},
      {"ZREM", {&R::zrem, -3, true}},
      {"ZRANGE", {&R::zrange, -4, false}},
      {"ZRANGEBYSCORE", {&R::zrangebyscore, -4, false}},
      {"ZREMRANGEBYSCORE", {&R::zremrangebyscore, 4, true}},
      {"ZREMRANGEBYRANK", {&R::zremrangebyrank, 4, true}},
      {"ZSCAN", {&R::zscan, -3, false}},
      {"SCAN", {&R::scan_keys, -2, false}},
      {"TIME", {&R::time, 1, false}},
      {"PUBLISH", {&R::publish, 3, false}},
      {"INFO", {&R::info, -1, false}},
      {"CLIENT", {&R::client_command, -2, false}},
      {"SCRIPT", {&R::script_command, -2, false}},
      {"EVAL", {&R::eval, -3, false}},
      {"EVALSHA", {&R::evalsha, -3, false}},
      {"FUNCTION", {&R::function_command, -2, false}},
      {"FCALL", {&R::fcall, -3, false}},
  };
  return all;
}

const MemoryRedis::Command* MemoryRedis::find_command(const Arguments& arguments) {
  const auto found = commands().find(upper(arguments.front()));
  if (found == commands().end()) unknown(arguments.front());
  const int arity = found->second.arity, count = static_cast<int>(arguments.size());
  return arity >= 0 ? (count == arity ? &found->second : nullptr) : (count >= -arity ? &found->second : nullptr);
}

Reply MemoryRedis::call(const Arguments& arguments, bool from_script, bool is_read_only) {
  const Command* command = find_command(arguments);
  if (command == nullptr) {
    if (from_script) return failed("ERR Wrong number of args calling Redis command from script");
    return failed("ERR wrong number of arguments for '" + lower(arguments.front()) + "' command");
  }
  if (is_read_only && command->writes) return failed("ERR Write commands are not allowed from read-only scripts.");
  return (this->*command->handler)(arguments);
}

Reply MemoryRedis::execute(Client& client, const Arguments& arguments) {
  const std::string name = upper(arguments.front());
  if (name == "MULTI") {
    if (client.in_multi) return failed("ERR MULTI calls can not be nested");
    client = Client{true, false, {}};
    return ok();
  }
  if (name == "DISCARD" || name == "EXEC") {
    if (!client.in_multi) return failed("ERR " + name + " without MULTI");
    const Client ended = std::exchange(client, Client{});
    if (name == "DISCARD") return ok();
    if (ended.is_spoiled) return failed("EXECABORT Transaction discarded because of previous errors.");
    std::vector<Reply> replies;
    for (const Arguments& each : ended.queued) replies.push_back(call(each, false, false));
    return array(std::move(replies));
  }
  if (!client.in_multi) return call(arguments, false, false);
  if (find_command(arguments) == nullptr) {
    client.is_spoiled = true;
    return call(arguments, false, false);
  }
  client.queued.push_back(arguments);
  return status("QUEUED");
}

MemoryRedis::Value* MemoryRedis::find(const std::string& key) {
  const auto found = data_.keys.find(key);
  if (found == data_.keys.end()) return nullptr;
  if (found->second.expires_ms == 0 || found->second.expires_ms > now_ms()) return &found->second;
  data_.keys.erase(found);
  return nullptr;
}

const MemoryRedis::Value* MemoryRedis::look(const std::string& key) const {
  const auto found = data_.keys.find(key);
  if (found == data_.keys.end()) return nullptr;
  return found->second.expires_ms == 0 || found->second.expires_ms > now_ms() ? &found->second : nullptr;
}

template <typename T>
T* MemoryRedis::find_as(const std::string& key, Reply& wrong) {
  Value* value = find(key);
  if (value == nullptr) return nullptr;
  T* held = std::get_if<T>(&value->data);
  if (held == nullptr) wrong = failed(kWrongType);
  return held;
}

template <typename T>
T* MemoryRedis::make_as(const std::string& key, Reply& wrong) {
  if (find(key) == nullptr) data_.keys[key].data = T();
  return find_as<T>(key, wrong);
}

Reply MemoryRedis::get(const Arguments& a) {
  Reply wrong;
  const auto* value = find_as<std::string>(a[1], wrong);
  return value == nullptr ? wrong : text_of(*value);
}

Reply MemoryRedis::getrange(const Arguments& a) {
  auto first = integer_of(a[2]), last = integer_of(a[3]);
  if (!first || !last) return failed(kNoInteger);
  Reply wrong;
  const auto* value = find_as<std::string>(a[1], wrong);
  if (value == nullptr) return wrong.is_error() ? wrong : text_of("");
  const auto length = static_cast<std::int64_t>(value->size());
  if (*first < 0 && *last < 0 && *first > *last) return text_of("");
  for (auto* one : {&*first, &*last}) {
    if (*one < 0) *one = std::max<std::int64_t>(*one + length, 0);
  }
  *last = std::min(*last, length - 1);
  if (*first > *last || length == 0) return text_of("");
  return text_of(value->substr(static_cast<std::size_t>(*first), static_cast<std::size_t>(*last - *first + 1)));
}

Reply MemoryRedis::mget(const Arguments& a) {
  std::vector<Reply> replies;
  for (std::size_t i = 1; i < a.size(); ++i) {
    Reply wrong;
    const auto* value = find_as<std::string>(a[i], wrong);
    replies.push_back(value == nullptr ? nil() : text_of(*value));
  }
  return array(std::move(replies));
}

Reply MemoryRedis::set(const Arguments& a) {
  std::int64_t expires = 0;
  bool keeps = false, if_absent = false, if_there = false, tells_former = false;
  for (std::size_t i = 3; i < a.size(); ++i) {
    const std::string option = upper(a[i]);
    if (option == "GET") {
      tells_former = true;
    } else if (option == "NX") {
      if_absent = true;
    } else if (option == "XX") {
      if_there = true;
    } else if (option == "KEEPTTL") {
      keeps = true;
    } else if ((option == "PX" || option == "EX") && i + 1 < a.size() && expires == 0) {
      const auto lifetime = integer_of(a[++i]);
      if (!lifetime) return failed(kNoInteger);
      if (*lifetime <= 0) return failed("ERR invalid expire time in 'set' command");
      expires = now_ms() + *lifetime * (option == "EX" ? 1000 : 1);
    } else {
      return failed(kSyntax);
    }
  }
  if ((if_absent && if_there) || (keeps && expires != 0)) return failed(kSyntax);
  const Value* there = find(a[1]);
  Reply former = ok();
  if (tells_former) {
    Reply wrong;
    const auto* value = there == nullptr ? nullptr : find_as<std::string>(a[1], wrong);
    if (there != nullptr && value == nullptr) return wrong;
    former = value == nullptr ? nil() : text_of(*value);
  }
  if ((if_absent && there != nullptr) || (if_there && there == nullptr)) return tells_former ? former : nil();
  if (keeps && there != nullptr) expires = there->expires_ms;
  data_.keys[a[1]] = Value{a[2], expires};
  return former;
}

Reply MemoryRedis::unlink(const Arguments& a) {
  std::int64_t count = 0;
  for (std::size_t i = 1; i < a.size(); ++i) {
    if (find(a[i]) != nullptr) count += static_cast<std::int64_t>(data_.keys.erase(a[i]));
  }
  return number(count);
}

Reply MemoryRedis::exists(const Arguments& a) {
  std::int64_t count = 0;
  for (std::size_t i = 1; i < a.size(); ++i) count += find(a[i]) != nullptr ? 1 : 0;
  return number(count);
}

Reply MemoryRedis::type(const Arguments& a) {
  const Value* value = find(a[1]);
  static constexpr const char* kNames[] = {"string", "set", "zset"};
  return status(value == nullptr ? "none" : kNames[value->data.index()]);
}

Reply MemoryRedis::pttl(const Arguments& a) {
  const Value* value = find(a[1]);
  if (value == nullptr) return number(-2);
  return number(value->expires_ms == 0 ? -1 : value->expires_ms - now_ms());
}

Reply MemoryRedis::expire_at(const Arguments& a, std::int64_t at) {
  bool if_longer = false;
  for (std::size_t i = 3; i < a.size(); ++i) {
    if (upper(a[i]) != "GT") return failed("ERR Unsupported option " + a[i]);
    if_longer = true;
  }
  Value* value = find(a[1]);
  if (value == nullptr) return number(0);
  if (if_longer && (value->expires_ms == 0 || at <= value->expires_ms)) return number(0);
  if (at <= now_ms()) {
    data_.keys.erase(a[1]);
  } else {
    value->expires_ms = at;
  }
  return number(1);
}

Reply MemoryRedis::pexpire(const Arguments& a) {
  const auto lifetime = integer_of(a[2]);
  if (!lifetime) return failed(kNoInteger);
  return expire_at(a, now_ms() + *lifetime);
}

Reply MemoryRedis::pexpireat(const Arguments& a) {
  const auto at = integer_of(a[2]);
  if (!at) return failed(kNoInteger);
  return expire_at(a, *at);
}

Reply MemoryRedis::persist(const Arguments& a) {
  Value* value = find(a[1]);
  if (value == nullptr || value->expires_ms == 0) return number(0);
  value->expires_ms = 0;
  return number(1);
}

Reply MemoryRedis::add(const std::string& key, std::int64_t by) {
  Reply wrong;
  auto* text = find_as<std::string>(key, wrong);
  if (wrong.is_error()) return wrong;
  const auto before = text == nullptr ? std::optional<std::int64_t>(0) : integer_of(*text);
  if (!before) return failed(kNoInteger);
  std::int64_t sum = 0;
  if (__builtin_add_overflow(*before, by, &sum)) return failed("ERR increment or decrement would overflow");
  if (text == nullptr) {
    data_.keys[key] = Value{std::to_string(sum), 0};
  } else {
    *text = std::to_string(sum);
  }
  return number(sum);
}

Reply MemoryRedis::incr(const Arguments& a) { return add(a[1], 1); }

Reply MemoryRedis::incrby(const Arguments& a) {
  const auto by = integer_of(a[2]);
  return by ? add(a[1], *by) : failed(kNoInteger);
}

Reply MemoryRedis::sadd(const Arguments& a) {
  Reply wrong;
  Set* set = make_as<Set>(a[1], wrong);
  if (set == nullptr) return wrong;
  std::int64_t count = 0;
  for (std::size_t i = 2; i < a.size(); ++i) count += set->insert(a[i]).second ? 1 : 0;
  return number(count);
}

template <typename Members>
Reply MemoryRedis::remove_members(const Arguments& a) {
  Reply wrong;
  Members* set = find_as<Members>(a[1], wrong);
  if (wrong.is_error()) return wrong;
  if (set == nullptr) return number(0);
  std::int64_t count = 0;
  for (std::size_t i = 2; i < a.size(); ++i) count += static_cast<std::int64_t>(set->erase(a[i]));
  if (set->empty()) data_.keys.erase(a[1]);
  return number(count);
}

Reply MemoryRedis::srem(const Arguments& a) { return remove_members<Set>(a); }

Reply MemoryRedis::smembers(const Arguments& a) {
  Reply wrong;
  const Set* set = find_as<Set>(a[1], wrong);
  if (wrong.is_error()) return wrong;
  std::vector<Reply> members;
  if (set != nullptr) {
    for (const std::string& member : *set) members.push_back(text_of(member));
  }
  return array(std::move(members));
}

Reply MemoryRedis::zadd(const Arguments& a) {
  bool if_absent = false, if_greater = false;
  std::size_t at = 2;
  for (; at < a.size(); ++at) {
    const std::string option = upper(a[at]);
    if (option == "NX") {
      if_absent = true;
    } else if (option == "GT") {
      if_greater = true;
    } else {
      break;
    }
  }
  if (at == a.size() || (a.size() - at) % 2 != 0) return failed(kSyntax);
  if (if_absent && if_greater) return failed("ERR GT, LT, and/or NX options at the same time are not compatible");
  std::vector<double> scores;
  for (std::size_t i = at; i < a.size(); i += 2) {
    const auto score = score_of(a[i]);
    if (!score) return failed("ERR value is not a valid float");
    scores.push_back(*score);
  }
  Reply wrong;
  SortedSet* set = make_as<SortedSet>(a[1], wrong);
  if (set == nullptr) return wrong;
  std::int64_t added = 0;
  for (std::size_t i = at; i < a.size(); i += 2) {
    const double score = scores[(i - at) / 2];
    const auto [there, is_new] = set->try_emplace(a[i + 1], score);
    if (is_new) {
      ++added;
    } else if (!if_absent && (!if_greater || score > there->second)) {
      there->second = score;
    }
  }
  return number(added);
}

Reply MemoryRedis::zrem(const Arguments& a) { return remove_members<SortedSet>(a); }

Reply MemoryRedis::zrange(const Arguments& a) {
  const bool with_scores = a.size() == 5 && upper(a[4]) == "WITHSCORES";
  if (a.size() > 4 && !with_scores) return failed(kSyntax);
  const auto first = integer_of(a[2]), last = integer_of(a[3]);
  if (!first || !last) return failed(kNoInteger);
  Reply wrong;
  const SortedSet* set = find_as<SortedSet>(a[1], wrong);
  if (wrong.is_error()) return wrong;
  std::vector<Reply> replies;
  if (set != nullptr) {
    const Ranked all = ranked(*set);
    if (const auto range = ranks(*first, *last, all.size())) {
      for (std::size_t i = range->first; i <= range->second; ++i) {
        replies.push_back(text_of(all[i].second));
        if (with_scores) replies.push_back(text_of(score_text(all[i].first)));
      }
    }
  }
  return array(std::move(replies));
}

Reply MemoryRedis::zrangebyscore(const Arguments& a) {
  const auto low = bound_of(a[2]), high = bound_of(a[3]);
  if (!low || !high) return failed("ERR min or max is not a float");
  std::int64_t skip = 0, most = -1;
  if (a.size() > 4) {
    if (a.size() != 7 || upper(a[4]) != "LIMIT") return failed(kSyntax);
    const auto offset = integer_of(a[5]), count = integer_of(a[6]);
    if (!offset || !count) return failed(kNoInteger);
    skip = *offset;
    most = *count;
  }
  Reply wrong;
  const SortedSet* set = find_as<SortedSet>(a[1], wrong);
  if (wrong.is_error()) return wrong;
  std::vector<Reply> replies;
  if (set != nullptr && skip >= 0) {
    for (const auto& [score, member] : ranked(*set)) {
      if (score < low->value || score > high->value || (low->is_open && score == low->value) || (high->is_open && score == high->value)) continue;
      if (skip-- > 0) continue;
      if (most-- == 0) break;
      replies.push_back(text_of(member));
    }
  }
  return array(std::move(replies));
}

Reply MemoryRedis::zremrangebyscore(const Arguments& a) {
  const Reply found = zrangebyscore(a);
  if (found.is_error()) return found;
  if (found.elements.empty()) return number(0);
  Arguments removal = {"ZREM", a[1]};
  for (const Reply& member : found.elements) removal.push_back(member.text);
  return zrem(removal);
}

Reply MemoryRedis::zremrangebyrank(const Arguments& a) {
  const Reply found = zrange(a);
  if (found.is_error()) return found;
  if (found.elements.empty()) return number(0);
  Arguments removal = {"ZREM", a[1]};
  for (const Reply& member : found.elements) removal.push_back(member.text);
  return zrem(removal);
}

// Where a name stands in the order of cursors: another one in each process. Never 0, which is a cursor's beginning.
std::uint64_t MemoryRedis::place(const std::string& name) const {
  std::uint64_t hash = 14695981039346656037u ^ (seed_ * 31 + process_) * 0x9e3779b97f4a7c15u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  hash ^= hash >> 29;
  return (hash & 0xffffffffffffu) | 1u;
}

// What is there from the cursor's beginning to its end is returned; what comes or goes meanwhile, perhaps.
template <typename Each>
Reply MemoryRedis::scan(const std::vector<std::string>& names, const Arguments& a, std::size_t cursor_at, const Each& each) {
  const auto cursor = integer_of(a[cursor_at]);
  if (!cursor || *cursor < 0) return failed("ERR invalid cursor");
  std::size_t count = 10;
  std::string match, type;
  for (std::size_t i = cursor_at + 1; i + 1 < a.size(); i += 2) {
    const std::string option = upper(a[i]);
    if (option == "COUNT") {
      const auto wanted = integer_of(a[i + 1]);
      if (!wanted) return failed(kNoInteger);
      if (*wanted < 1) return failed(kSyntax);
      count = static_cast<std::size_t>(*wanted);
    } else if (option == "MATCH") {
      match = a[i + 1];
    } else if (option == "TYPE" && cursor_at == 1) {
      type = a[i + 1];
    } else {
      return failed(kSyntax);
    }
  }
  if ((a.size() - cursor_at) % 2 == 0) return failed(kSyntax);
  std::vector<std::pair<std::uint64_t, const std::string*>> order;
  for (const std::string& name : names) {
    const std::uint64_t at = place(name);
    if (at >= static_cast<std::uint64_t>(*cursor)) order.emplace_back(at, &name);
  }
  std::sort(order.begin(), order.end());
  std::size_t taken = std::min({order.size(), count, page_max});
  while (taken > 0 && taken < order.size() && order[taken].first == order[taken - 1].first) ++taken;
  std::vector<Reply> page;
  for (std::size_t i = 0; i < taken; ++i) {
    if (match.empty() || glob_matches(match, *order[i].second)) each(*order[i].second, type, page);
  }
  if (taken < order.size() && on_cut_off) on_cut_off();
  return array({text_of(taken < order.size() ? std::to_string(order[taken].first) : "0"), array(std::move(page))});
}

Reply MemoryRedis::scan_keys(const Arguments& a) {
  std::vector<std::string> names;
  for (const auto& [name, value] : data_.keys) {
    if (value.expires_ms == 0 || value.expires_ms > now_ms()) names.push_back(name);
  }
  return scan(names, a, 1, [this](const std::string& name, const std::string& wanted, std::vector<Reply>& page) {
    if (wanted.empty() || type({"TYPE", name}).text == lower(wanted)) page.push_back(text_of(name));
  });
}

Reply MemoryRedis::sscan(const Arguments& a) {
  Reply wrong;
  const Set* set = find_as<Set>(a[1], wrong);
  if (wrong.is_error()) return wrong;
  if (set == nullptr) return array({text_of("0"), array({})});
  return scan({set->begin(), set->end()}, a, 2,
              [](const std::string& name, const std::string&, std::vector<Reply>& page) { page.push_back(text_of(name)); });
}

Reply MemoryRedis::zscan(const Arguments& a) {
  Reply wrong;
  const SortedSet* set = find_as<SortedSet>(a[1], wrong);
  if (wrong.is_error()) return wrong;
  if (set == nullptr) return array({text_of("0"), array({})});
  std::vector<std::string> names;
  for (const auto& [member, score] : *set) names.push_back(member);
  return scan(names, a, 2, [set](const std::string& name, const std::string&, std::vector<Reply>& page) {
    page.push_back(text_of(name));
    page.push_back(text_of(score_text(set->at(name))));
  });
}

Reply MemoryRedis::time(const Arguments&) {
  return array({text_of(std::to_string(now_.count() / 1'000'000)), text_of(std::to_string(now_.count() % 1'000'000))});
}

Reply MemoryRedis::publish(const Arguments&) { return number(0); }

Reply MemoryRedis::info(const Arguments&) {
  return text_of("# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrun_id:" + run_id_ +
                 "\r\n# Persistence\r\nloading:0\r\n# Stats\r\nevicted_keys:0\r\n# Replication\r\nrole:master\r\n");
}

Reply MemoryRedis::client_command(const Arguments& a) {
  if (upper(a[1]) != "SETNAME") unknown("CLIENT " + a[1]);
  return ok();
}

// ------------------------------------------------------------------------------------------------------------ Scripts

Reply MemoryRedis::script_command(const Arguments& a) {
  if (upper(a[1]) == "FLUSH") {
    scripts_.clear();
    return ok();
  }
  if (upper(a[1]) != "LOAD" || a.size() != 3) unknown("SCRIPT " + a[1]);
  return load_script(a[2]);
}

Reply MemoryRedis::load_script(const std::string& text) {
  const auto compiled = LuaEngine::current().compile(text, "@user_script");
  if (!compiled) return compiled.error();
  // The same texts come at every connect.
  static thread_local std::unordered_map<int, std::string> known;
  std::string& sha1 = known[*compiled];
  if (sha1.empty()) sha1 = sha1_of(text);
  scripts_[sha1] = *compiled;
  return text_of(sha1);
}

// How many of the arguments behind a[2] are keys; an error reply when it is no number of them.
static std::optional<Reply> read_key_count(const MemoryRedis::Arguments& a, std::size_t& count) {
  const auto keys = integer_of(a[2]);
  if (!keys) return failed(kNoInteger);
  if (*keys < 0) return failed("ERR Number of keys can't be negative");
  if (static_cast<std::size_t>(*keys) > a.size() - 3) return failed("ERR Number of keys can't be greater than number of args");
  count = static_cast<std::size_t>(*keys);
  return std::nullopt;
}

Reply MemoryRedis::eval(const Arguments& a) {
  const Reply loaded = load_script(a[1]);
  if (loaded.is_error()) return loaded;
  Arguments by_hash = a;
  by_hash[1] = loaded.text;
  return evalsha(by_hash);
}

Reply MemoryRedis::evalsha(const Arguments& a) {
  const auto found = scripts_.find(lower(a[1]));
  if (found == scripts_.end()) return failed("NOSCRIPT No matching script. Please use EVAL.");
  std::size_t keys = 0;
  if (auto error = read_key_count(a, keys)) return *error;
  LuaEngine& engine = LuaEngine::current();
  engine.push_list(a, 3, 3 + keys);
  engine.set_global("KEYS");
  engine.push_list(a, 3 + keys, a.size());
  engine.set_global("ARGV");
  engine.push(found->second);
  return engine.run(*this, 0, false);
}

void MemoryRedis::load_library(const std::string& text, Reply& reply) {
  const std::size_t line = text.find('\n');
  if (line == std::string::npos || !text.starts_with("#!lua name=")) unknown("a library without its first line");
  LuaEngine& engine = LuaEngine::current();
  const auto compiled = engine.compile(text.substr(line), "@user_function");
  if (!compiled) {
    reply = compiled.error();
    return;
  }
  forget_functions();
  engine.push(*compiled);
  engine.loading = this;
  const int failure = lua_pcall(engine.lua(), 0, 0, 0);
  engine.loading = nullptr;
  if (failure != 0) {
    reply = failed(std::string("ERR Error registering functions: ") + lua_tostring(engine.lua(), -1));
    lua_pop(engine.lua(), 1);
    return;
  }
  data_.library = text;
  reply = text_of(text.substr(11, line - 11));
}

Reply MemoryRedis::function_command(const Arguments& a) {
  if (upper(a[1]) != "LOAD" || a.size() != 4 || upper(a[2]) != "REPLACE") unknown("FUNCTION " + a[1]);
  Reply reply;
  load_library(a[3], reply);
  return reply;
}

Reply MemoryRedis::fcall(const Arguments& a) {
  const auto found = functions_.find(a[1]);
  if (found == functions_.end()) return failed("ERR Function not found");
  std::size_t keys = 0;
  if (auto error = read_key_count(a, keys)) return *error;
  LuaEngine& engine = LuaEngine::current();
  engine.push(found->second.reference);
  engine.push_list(a, 3, 3 + keys);
  engine.push_list(a, 3 + keys, a.size());
  return engine.run(*this, 2, found->second.is_read_only);
}

}  // namespace evictd::testing
