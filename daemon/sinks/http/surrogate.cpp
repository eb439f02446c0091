#include "daemon/sinks/http/surrogate.h"

#include <algorithm>

#include "mapping/check.h"
#include "mapping/filters.h"

namespace evictd {

std::string_view edge_kind_name(EdgeKind kind) {
  switch (kind) {
    case EdgeKind::kFastly:
      return "fastly";
    case EdgeKind::kCloudflare:
      return "cloudflare";
    case EdgeKind::kVarnish:
      return "varnish";
    case EdgeKind::kHttp:
      return "http";
  }
  return "unknown";
}

std::string spell_surrogate_key(std::string_view key, EdgeKind kind) {
  constexpr std::string_view kHex = "0123456789abcdef";
  constexpr std::string_view kMarks = "-_.~:/@+=!$";
  if (key.empty()) return "%empty";
  const bool ignores_case = kind == EdgeKind::kCloudflare;
  std::string spelled;
  spelled.reserve(key.size());
  for (const char c : key) {
    const bool is_plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z' && !ignores_case) ||
                          kMarks.find(c) != std::string_view::npos;
    if (is_plain) {
      spelled += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      spelled += '%';
      spelled += kHex[byte >> 4U];
      spelled += kHex[byte & 0x0fU];
    }
  }
  if (spelled.size() <= kSurrogateBytesMax) return spelled;
  std::string hash(key);
  EVICTD_CHECK(FilterMachine().apply({Filter::Kind::kSha256, {}}, hash));
  return "%sha256-" + hash;
}

}  // namespace evictd
