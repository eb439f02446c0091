// The command line of a simulation: worlds from seeds, one after the other.
//
//   [--seed=N] [--runs=N] [--expect-failure] [--verbose]      EVICTD_SOAK=1: fifty times as many runs
//
// --expect-failure is for broken builds: ends with the first run that fails, and fails when none does.
#pragma once

#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

namespace evictd::testing {

inline std::uint64_t flag(int argc, char** argv, std::string_view name, std::uint64_t otherwise) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument.substr(0, name.size()) != name) continue;
    std::from_chars(argument.data() + name.size(), argument.data() + argument.size(), otherwise);
  }
  return otherwise;
}

inline bool has(int argc, char** argv, std::string_view name) {
  for (int i = 1; i < argc; ++i) {
    if (argv[i] == name) return true;
  }
  return false;
}

// World: made of a seed; `bool verbose`; `std::string run()` says what did not hold, or nothing. Where it counts
// `values_compared`, a world that compared none would prove nothing: their number is told. -> the exit code
template <typename World>
int run_worlds(int argc, char** argv, const char* name) {
  constexpr std::uint64_t kSoakFactor = 50, kFailuresMax = 20, kTellEach = 10'000;
  const auto text = [](std::uint64_t number) { return static_cast<unsigned long>(number); };
  const bool expect_failure = has(argc, argv, "--expect-failure");
  const char* soak = std::getenv("EVICTD_SOAK");
  const bool is_soak = soak != nullptr && std::string_view(soak) == "1" && !expect_failure;
  const std::uint64_t first = flag(argc, argv, "--seed=", 1);
  const std::uint64_t runs = flag(argc, argv, "--runs=", 1) * (is_soak ? kSoakFactor : 1);
  std::uint64_t failures = 0, done = 0, values = 0;
  for (std::uint64_t seed = first; seed < first + runs; ++seed) {
    World world(seed);
    world.verbose = has(argc, argv, "--verbose");
    const std::string problem = world.run();
    if constexpr (requires { world.values_compared; }) values += world.values_compared;
    if (++done % kTellEach == 0) std::printf("%lu runs, %lu failed\n", text(done), text(failures));
    if (problem.empty()) continue;
    ++failures;
    std::printf("seed %lu: %s\n", text(seed), problem.c_str());
    if (expect_failure || failures == kFailuresMax) break;
  }
  std::printf("%s: %lu runs from seed %lu, ", name, text(done), text(first));
  if (values > 0) std::printf("%lu values compared at their ends, ", text(values));
  std::printf("%lu failed\n", text(failures));
  if (!expect_failure) return failures == 0 ? 0 : 1;
  if (failures == 0) std::printf("expected a failure of the broken build, got none: the simulation proves nothing\n");
  return failures == 0 ? 1 : 0;
}

}  // namespace evictd::testing
