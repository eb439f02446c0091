// The texts of lua/*.lua, made into constants by the build (embed.cmake).
#pragma once

namespace evictd {

extern const char kLua_marker[];
extern const char kLua_invalidate[];
extern const char kLua_scattered[];
extern const char kLua_walk[];
extern const char kLua_counter[];
extern const char kLua_record[];
extern const char kLua_plain[];
extern const char kLua_reader[];
extern const char kLua_refresh[];
extern const char kLua_library[];

}  // namespace evictd
