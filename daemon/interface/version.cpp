#include "daemon/interface/version.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace evictd {
namespace {

// Takes a whole decimal number off the front of `text`, up to `stop` or the end.
bool take_xid(std::string_view& text, char stop, Xid& xid) {
  const std::size_t length = std::min(text.find(stop), text.size());
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + length, value);
  if (error != std::errc{} || end != text.data() + length || length == 0) return false;
  xid = Xid{value};
  text.remove_prefix(std::min(length + 1, text.size()));
  return true;
}

}  // namespace

Result<Snapshot> Snapshot::parse(std::string_view text) {
  const auto malformed = [whole = text] {
    return fail(ErrorKind::kData,
                fmt::format("expected a snapshot 'xmin:xmax:xip,...', got '{}'", whole.substr(0, 100)));
  };
  Snapshot snapshot;
  if (std::count(text.begin(), text.end(), ':') != 2) return malformed();
  if (!take_xid(text, ':', snapshot.xmin_) || !take_xid(text, ':', snapshot.xmax_)) return malformed();
  while (!text.empty()) {
    Xid xid{};
    const bool more = text.find(',') != std::string_view::npos;
    if (!take_xid(text, ',', xid)) return malformed();
    if (more && text.empty()) return malformed();
    snapshot.in_progress_.push_back(xid);
  }
  if (snapshot.xmax_ < snapshot.xmin_) return malformed();
  std::sort(snapshot.in_progress_.begin(), snapshot.in_progress_.end());
  return snapshot;
}

bool Snapshot::sees(Xid xid) const {
  if (xid < xmin_) return true;
  if (xid >= xmax_) return false;
  return !std::binary_search(in_progress_.begin(), in_progress_.end(), xid);
}

std::string Snapshot::to_string() const {
  std::string text = fmt::format("{}:{}:", number(xmin_), number(xmax_));
  for (std::size_t i = 0; i < in_progress_.size(); ++i) {
    if (i != 0) text += ',';
    text += fmt::format("{}", number(in_progress_[i]));
  }
  return text;
}

Xid widen_xid(std::uint32_t low, Xid near) {
  const auto distance = static_cast<std::int32_t>(low - static_cast<std::uint32_t>(number(near)));
  const std::uint64_t base = number(near);
  if (distance < 0 && base < static_cast<std::uint64_t>(-static_cast<std::int64_t>(distance))) {
    return Xid{low};  // before the first epoch there is nothing to be nearer to
  }
  return Xid{base + static_cast<std::uint64_t>(static_cast<std::int64_t>(distance))};
}

}  // namespace evictd
