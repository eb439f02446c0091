// The one spelling of a surrogate key that a service's alphabet can carry. Pure and injective: two keys never share one.
// Whoever renders a page writes this spelling into its Surrogate-Key, Cache-Tag or xkey header (docs/edge.md); `evictd
// explain` prints it.
//
//   letters, digits and - _ . ~ : / @ + = ! $   stand for themselves; capital letters not where the service ignores case
//   any other byte                              %xx, in lower case
//   the empty key                               %empty
//   longer than the service takes               %sha256- and the SHA-256 of the key, in lower-case hex
//
// No escape begins with "%e" and an "m", or with "%s": the last two spellings are no other key's.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace evictd {

enum class EdgeKind : std::uint8_t { kFastly, kCloudflare, kVarnish, kHttp };
inline constexpr EdgeKind kEdgeKinds[] = {EdgeKind::kFastly, EdgeKind::kCloudflare, EdgeKind::kVarnish, EdgeKind::kHttp};

// "fastly", as in the configuration.
std::string_view edge_kind_name(EdgeKind kind);

// Of one spelled key. Fastly and Cloudflare name it themselves; the others are held to the same.
inline constexpr std::size_t kSurrogateBytesMax = 1024;

std::string spell_surrogate_key(std::string_view key, EdgeKind kind);

}  // namespace evictd
