// Counts of latencies in buckets a fifth apart (four to each doubling), from 1 µs to more than two hours: cheap enough to
// count every transaction, and fine enough for a quantile that a person reads. Pure.
#pragma once

#include <array>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace evictd {

class LatencyBuckets {
 public:
  static constexpr std::size_t kCount = 4 * 33;

  void add(std::chrono::microseconds latency) { ++counts_[index_of(latency)]; }
  std::uint64_t total() const;

  // In seconds, of what was added since `before` was copied from this; nothing when nothing was. `q` in 0 .. 1.
  std::optional<double> quantile(const LatencyBuckets& before, double q) const;

 private:
  static std::size_t index_of(std::chrono::microseconds latency);
  static double lower_bound_us(std::size_t index);
  std::array<std::uint64_t, kCount> counts_{};
};

}  // namespace evictd
