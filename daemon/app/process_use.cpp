#include "daemon/app/process_use.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>

namespace evictd {
namespace {

double seconds(const timeval& time) { return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6; }

// proc_pid_stat(5): the 22nd field, in clock ticks since the system was booted; the command before it may hold blanks and
// brackets. proc_stat(5): btime, in seconds since 1970.
std::optional<double> start_time() {
  std::ifstream stat("/proc/self/stat");
  std::string line;
  if (!std::getline(stat, line)) return std::nullopt;
  const std::size_t end = line.rfind(')');
  if (end == std::string::npos) return std::nullopt;
  std::istringstream fields(line.substr(end + 1));
  std::string skipped;
  for (int field = 3; field < 22; ++field) fields >> skipped;
  double ticks = 0;
  if (!(fields >> ticks)) return std::nullopt;
  std::ifstream system("/proc/stat");
  while (std::getline(system, line)) {
    double booted = 0;
    if (std::sscanf(line.c_str(), "btime %lf", &booted) == 1) return booted + ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
  }
  return std::nullopt;
}

// Without the one that counts them.
std::optional<double> open_descriptors() {
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(opendir("/proc/self/fd"), closedir);
  if (!folder) return std::nullopt;
  double count = 0;
  while (const dirent* entry = readdir(folder.get())) {
    if (entry->d_name[0] != '.') ++count;
  }
  return count - 1;
}

}  // namespace

ProcessMeter::ProcessMeter() : memory_(open("/proc/self/statm", O_RDONLY | O_CLOEXEC)), started_(start_time()) {}

ProcessUse ProcessMeter::read() const {
  ProcessUse use;
  use.started = started_;
  rusage used{};
  if (getrusage(RUSAGE_SELF, &used) == 0) use.cpu_seconds = seconds(used.ru_utime) + seconds(used.ru_stime);
  if (memory_.is_open()) {
    std::array<char, 128> text{};
    unsigned long total = 0, resident = 0;  // proc_pid_statm(5): in pages
    const ssize_t size = pread(memory_.get(), text.data(), text.size() - 1, 0);
    if (size > 0 && std::sscanf(text.data(), "%lu %lu", &total, &resident) == 2) {
      const auto page = static_cast<double>(sysconf(_SC_PAGESIZE));
      use.virtual_bytes = static_cast<double>(total) * page;
      use.resident_bytes = static_cast<double>(resident) * page;
    }
  }
  use.open_descriptors = open_descriptors();
  rlimit descriptors{};
  if (getrlimit(RLIMIT_NOFILE, &descriptors) == 0 && descriptors.rlim_cur != RLIM_INFINITY) {
    use.descriptors_max = static_cast<double>(descriptors.rlim_cur);
  }
  return use;
}

}  // namespace evictd
