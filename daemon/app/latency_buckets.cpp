#include "daemon/app/latency_buckets.h"

#include <algorithm>
#include <numeric>

namespace evictd {

// The bucket's number: the position of the highest bit, and the two bits below it.
std::size_t LatencyBuckets::index_of(std::chrono::microseconds latency) {
  const auto value = static_cast<std::uint64_t>(std::max<std::int64_t>(latency.count(), 1));
  const auto octave = static_cast<std::size_t>(std::bit_width(value)) - 1;
  const std::uint64_t below = octave >= 2 ? value >> (octave - 2) & 3 : value << (2 - octave) & 3;
  return std::min(octave * 4 + static_cast<std::size_t>(below), kCount - 1);
}

double LatencyBuckets::lower_bound_us(std::size_t index) {
  return static_cast<double>(std::uint64_t{1} << index / 4) * (1.0 + static_cast<double>(index % 4) / 4);
}

std::uint64_t LatencyBuckets::total() const {
  return std::accumulate(counts_.begin(), counts_.end(), std::uint64_t{0});
}

std::optional<double> LatencyBuckets::quantile(const LatencyBuckets& before, double q) const {
  const std::uint64_t count = total() - before.total();
  if (count == 0) return std::nullopt;
  const double wanted = q * static_cast<double>(count);
  double seen = 0;
  for (std::size_t index = 0; index < kCount; ++index) {
    const auto here = static_cast<double>(counts_[index] - before.counts_[index]);
    if (here == 0 || seen + here < wanted) {
      seen += here;
      continue;
    }
    const double lower = lower_bound_us(index);
    const double upper = index + 1 < kCount ? lower_bound_us(index + 1) : lower;
    return (lower + (upper - lower) * std::clamp((wanted - seen) / here, 0.0, 1.0)) / 1e6;
  }
  return std::nullopt;
}

}  // namespace evictd
