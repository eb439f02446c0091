#include "mapping/did_you_mean.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace evictd {

namespace {

// Insertions, deletions, substitutions and swaps of neighbours that turn one into the other: a swap
// is the commonest slip of a hand ("kyes"), so it counts once.
std::size_t edit_distance(std::string_view left, std::string_view right) {
  const std::size_t width = right.size() + 1;
  std::vector<std::size_t> before_last(width);
  std::vector<std::size_t> last(width);
  std::vector<std::size_t> current(width);
  std::iota(last.begin(), last.end(), std::size_t{0});
  for (std::size_t i = 1; i <= left.size(); ++i) {
    current[0] = i;
    for (std::size_t j = 1; j < width; ++j) {
      const std::size_t substitution = last[j - 1] + (left[i - 1] == right[j - 1] ? 0 : 1);
      current[j] = std::min({last[j] + 1, current[j - 1] + 1, substitution});
      if (i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1]) {
        current[j] = std::min(current[j], before_last[j - 2] + 1);
      }
    }
    before_last.swap(last);
    last.swap(current);
  }
  return last[right.size()];
}

constexpr std::size_t kNameLengthMax = 64;  // longer names are not slips of a hand

}  // namespace

std::string_view same_but_for_case(std::string_view name, std::span<const std::string_view> candidates) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  const auto found = std::find_if(candidates.begin(), candidates.end(), [&](std::string_view candidate) {
    return std::equal(name.begin(), name.end(), candidate.begin(), candidate.end(), [&](char a, char b) { return lower(a) == lower(b); });
  });
  return found == candidates.end() ? std::string_view() : *found;
}

std::string_view nearest_name(std::string_view name, std::span<const std::string_view> candidates) {
  if (name.empty() || name.size() > kNameLengthMax) return {};
  if (const std::string_view same = same_but_for_case(name, candidates); !same.empty()) return same;
  std::string_view nearest;
  std::size_t nearest_distance = std::max<std::size_t>(1, name.size() / 3) + 1;
  for (const std::string_view candidate : candidates) {
    const std::size_t distance = edit_distance(name, candidate);
    if (distance < nearest_distance && distance < candidate.size()) {
      nearest = candidate;
      nearest_distance = distance;
    }
  }
  return nearest;
}

std::string did_you_mean(std::string_view name, std::span<const std::string_view> candidates,
                         std::string_view plural) {
  if (const std::string_view nearest = nearest_name(name, candidates); !nearest.empty()) {
    return "did you mean '" + std::string(nearest) + "'?";
  }
  std::string text = "known " + std::string(plural) + ":";
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    text += (i == 0 ? " '" : ", '") + std::string(candidates[i]) + "'";
  }
  return text;
}

}  // namespace evictd
