#include "tests/support/ports.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <random>
#include <string>

#include "mapping/check.h"

namespace evictd::testing {
namespace {

constexpr int kFirst = 10'000, kEnd = 32'000;  // as in tests/harness/process.py

bool nobody_listens(int port) {
  const int probe = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  EVICTD_CHECK(probe >= 0);
  sockaddr_in where{};
  where.sin_family = AF_INET;
  where.sin_port = htons(static_cast<std::uint16_t>(port));
  where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const bool is_bound = ::bind(probe, reinterpret_cast<const sockaddr*>(&where), sizeof(where)) == 0;
  ::close(probe);
  return is_bound;
}

}  // namespace

int free_port() {
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / ("evictd-ports-" + std::to_string(::geteuid()));
  ::mkdir(folder.c_str(), 0700);
  static std::mt19937 random{std::random_device{}()};
  for (int tries = 0; tries < 10'000; ++tries) {
    const int port = std::uniform_int_distribution<int>(kFirst, kEnd - 1)(random);
    const int lock = ::open((folder / std::to_string(port)).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    EVICTD_CHECK(lock >= 0);
    // Stays open, and with it the lock, until the process ends.
    if (::flock(lock, LOCK_EX | LOCK_NB) == 0 && nobody_listens(port)) return port;
    ::close(lock);
  }
  EVICTD_CHECK(false && "a port of 127.0.0.1 that nobody uses");
  return 0;
}

}  // namespace evictd::testing
