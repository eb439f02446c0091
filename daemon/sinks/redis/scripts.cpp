#include "daemon/sinks/redis/scripts.h"

#include <openssl/evp.h>

#include "daemon/sinks/redis/lua_texts.h"
#include "mapping/check.h"

namespace evictd {
namespace {

std::string sha1_hex(std::string_view text) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int length = 0;
  EVICTD_CHECK(EVP_Digest(text.data(), text.size(), digest, &length, EVP_sha1(), nullptr) == 1);
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (unsigned int i = 0; i < length; ++i) {
    hex += kDigits[digest[i] >> 4];
    hex += kDigits[digest[i] & 15];
  }
  return hex;
}

ScriptText make(std::string text, std::string_view function) {
  text += "return ";
  text += function;
  text += "(KEYS, ARGV)\n";
  std::string sha1 = sha1_hex(text);
  return ScriptText{std::move(text), std::move(sha1)};
}

}  // namespace

const std::array<ScriptText, kScriptCount>& scripts() {
  static const std::array<ScriptText, kScriptCount> made = [] {
    const std::string invalidate = std::string(kLua_marker) + kLua_invalidate;
    const std::string walk = invalidate + kLua_walk;
    return std::array<ScriptText, kScriptCount>{
        make(invalidate, "invalidate"),   make(walk, "walk_begin"),
        make(walk, "walk_members"),       make(walk, "walk_finish"),
        make(kLua_record, "save_record"), make(walk, "lazy_tags"),
        make(invalidate + kLua_counter, "raise"), make(invalidate + kLua_counter, "resync"),
        make(invalidate + kLua_plain, "delete_plainly"),
        make(invalidate + kLua_scattered, "invalidate_scattered"),
    };
  }();
  return made;
}

namespace {

std::string reader_text(std::chrono::milliseconds tombstone_ttl, bool is_cluster) {
  return "local TOMBSTONE_TTL = " + std::to_string(tombstone_ttl.count()) +
         "  -- ms, from evictd's configuration\nlocal IS_CLUSTER = " + (is_cluster ? "true" : "false") +
         "\nlocal LIBRARY_VERSION = '" + library_version(tombstone_ttl, is_cluster) + "'\n" + kLua_marker + kLua_invalidate + kLua_reader;
}

}  // namespace

std::string library_version(std::chrono::milliseconds tombstone_ttl, bool is_cluster) {
  return std::to_string(kLibraryVersion) + " " + std::to_string(tombstone_ttl.count()) +
         (is_cluster ? " cluster" : "");
}

std::string function_library(std::chrono::milliseconds tombstone_ttl, bool is_cluster) {
  return "#!lua name=evictd\n" + reader_text(tombstone_ttl, is_cluster) + kLua_library;
}

std::vector<ReaderScript> reader_scripts(std::chrono::milliseconds tombstone_ttl, bool is_cluster) {
  const std::string text = reader_text(tombstone_ttl, is_cluster);
  return {{"evictd_fill", make(text, "fill")},
          {"evictd_get", make(text, "get")},
          {"evictd_join", make(text, "join")},
          {"evictd_seen", make(text, "seen")},
          {"evictd_invalidate", make(text, "write_invalidate")}};
}

RefreshScripts refresh_scripts(std::chrono::milliseconds tombstone_ttl, bool is_cluster) {
  const std::string text = reader_text(tombstone_ttl, is_cluster);
  return {make(text, "get"), make(text, "fill"), make(text, "join"), make(text + kLua_refresh, "release")};
}

void append_marker_name(std::string& out, std::string_view key) {
  out += "evictd:";
  const std::size_t open = key.find('{');
  if (open != std::string_view::npos) {
    const std::size_t close = key.find('}', open + 1);
    if (close != std::string_view::npos && close > open + 1) {
      out += key;
      return;
    }
  }
  out += '{';
  out += key;
  out += '}';
}

std::string channel_counter(std::string_view channel) {
  std::string name = "evictd:announced:";
  for (const char c : channel) {
    if (c == '{' || c == '%') {
      name += c == '{' ? "%7B" : "%25";
    } else {
      name += c;
    }
  }
  return name;
}

}  // namespace evictd
