#include "daemon/app/process_metrics.h"

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
#include <utility>

namespace evictd {
namespace {

using prometheus::MetricFamily;
using prometheus::MetricType;

void add(std::vector<MetricFamily>& out, const char* name, const char* help, MetricType type, double value) {
  MetricFamily& family = out.emplace_back();
  family.name = name;
  family.help = help;
  family.type = type;
  if (type == MetricType::Counter) {
    family.metric.emplace_back().counter.value = value;
  } else {
    family.metric.emplace_back().gauge.value = value;
  }
}

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

ProcessMetrics::ProcessMetrics() : memory_(open("/proc/self/statm", O_RDONLY | O_CLOEXEC)), started_(start_time()) {}

std::vector<MetricFamily> ProcessMetrics::Collect() const {
  std::vector<MetricFamily> out;
  rusage used{};
  if (getrusage(RUSAGE_SELF, &used) == 0) {
    add(out, "process_cpu_seconds_total", "Processor time used, of user and system.", MetricType::Counter,
        seconds(used.ru_utime) + seconds(used.ru_stime));
  }
  if (memory_.is_open()) {
    std::array<char, 128> text{};
    unsigned long total = 0, resident = 0;  // proc_pid_statm(5): in pages
    const ssize_t size = pread(memory_.get(), text.data(), text.size() - 1, 0);
    if (size > 0 && std::sscanf(text.data(), "%lu %lu", &total, &resident) == 2) {
      const auto page = static_cast<double>(sysconf(_SC_PAGESIZE));
      add(out, "process_virtual_memory_bytes", "Addresses in use.", MetricType::Gauge, static_cast<double>(total) * page);
      add(out, "process_resident_memory_bytes", "Memory in use.", MetricType::Gauge, static_cast<double>(resident) * page);
    }
  }
  if (const std::optional<double> count = open_descriptors()) {
    add(out, "process_open_fds", "Descriptors in use.", MetricType::Gauge, *count);
  }
  rlimit descriptors{};
  if (getrlimit(RLIMIT_NOFILE, &descriptors) == 0 && descriptors.rlim_cur != RLIM_INFINITY) {
    add(out, "process_max_fds", "Descriptors allowed.", MetricType::Gauge, static_cast<double>(descriptors.rlim_cur));
  }
  if (started_) {
    add(out, "process_start_time_seconds", "When the process began, since 1970.", MetricType::Gauge, *started_);
  }
  return out;
}

}  // namespace evictd
