// Writers, readers and evictd race for a cache; the judge says whether a stale value won. One step per word on
// standard input, one line of JSON for each on standard output; race.py drives it, and what holds commits back.
//
//   run N     readers fill until there were N fills (or S seconds, --seconds), beside the writers
//   quiet     writers stop
//   last      the last rows change
//   written   those changes are visible
//   finish    readers stop; the verdict
#include <cstdio>
#include <iostream>
#include <string>

#include "tests/readers/race/clients.h"
#include "tests/readers/race/judge.h"
#include "tests/readers/race/load.h"
#include "tests/readers/race/monitor.h"

namespace evictd::race {
namespace {

struct Options {
  LoadOptions load;
  double seconds_max = 600;
  std::int64_t bound_us = 1'000'000;
};

Options parse(int count, char** words) {
  Options options;
  for (int i = 1; i + 1 < count; i += 2) {
    const std::string name = words[i];
    const std::string value = words[i + 1];
    LoadOptions& load = options.load;
    if (name == "--postgres") load.postgres = value;
    else if (name == "--readers-postgres") load.readers_postgres = value;
    else if (name == "--redis-port") load.redis_port = std::stoi(value);
    else if (name == "--rows") load.rows = static_cast<std::uint32_t>(std::stoul(value));
    else if (name == "--writers") load.writers = std::stoi(value);
    else if (name == "--writer-pause-us") load.writer_pause_us = std::stoi(value);
    else if (name == "--readers") load.readers = std::stoi(value);
    else if (name == "--batch") load.batch = std::stoi(value);
    else if (name == "--level") load.level = value;
    else if (name == "--token") load.token = value;
    else if (name == "--on-a-miss") load.on_a_miss = value == "1";
    else if (name == "--pause-us-max") load.pause_us_max = std::stoi(value);
    else if (name == "--seconds") options.seconds_max = std::stod(value);
    else if (name == "--bound-us") options.bound_us = std::stoll(value);
    else fail("unknown option '" + name + "'");
  }
  if (options.load.readers_postgres.empty()) options.load.readers_postgres = options.load.postgres;
  return options;
}

// What is in the cache in the end, compared with its rows and with what the monitor made of it.
struct Left {
  std::uint64_t values = 0;
  std::uint64_t stale = 0;
  std::uint64_t unheard = 0;  // the monitor says otherwise: then nothing it says counts
};

Left compare(const Options& options, const Verdict& verdict) {
  Left left;
  Redis redis(options.load.redis_port);
  Postgres postgres(options.load.postgres);
  postgres.prepare("all", "select id, version from items");
  for (const auto& row : postgres.run("all", {})) {
    const Reply value = redis.command({"GET", "item:" + row[0]});
    const auto heard = verdict.left.find(static_cast<std::uint32_t>(std::stoul(row[0])));
    if (value.is_nil != (heard == verdict.left.end())) ++left.unheard;
    if (value.is_nil) continue;
    ++left.values;
    if (value.text != row[1]) ++left.stale;
    if (heard != verdict.left.end() && std::to_string(heard->second) != value.text) ++left.unheard;
  }
  return left;
}

void say(const std::string& text) {
  std::puts(text.c_str());
  std::fflush(stdout);
}

int race(const Options& options) {
  Monitor monitor(options.load.redis_port);
  Writers writers(options.load);
  Readers readers(options.load);
  monitor.begin();
  writers.begin();
  readers.begin();
  const std::int64_t began_us = ticking_us();
  double seconds = 0;
  std::uint64_t fills = 0;
  for (std::string step; std::cin >> step;) {
    if (step == "run") {
      std::uint64_t wanted = 0;
      std::cin >> wanted;
      while (readers.fills() < wanted && static_cast<double>(ticking_us() - began_us) < options.seconds_max * 1e6) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      }
      seconds = static_cast<double>(ticking_us() - began_us) / 1e6;
      fills = readers.fills();
      say("{}");
    } else if (step == "last") {
      writers.change_last_rows();
      say("{}");
    } else if (step == "quiet" || step == "written") {
      writers.stop();
      say("{}");
    } else if (step == "finish") {
      readers.stop();
      monitor.finish();
      const auto commits = writers.commits();
      const Verdict verdict = judge(commits, monitor.events(), monitor.end_us(), options.bound_us);
      const Left left = compare(options, verdict);
      std::string out = "{";
      const auto field = [&](const char* name, auto value) {
        out += (out.size() > 1 ? ", \"" : "\"") + std::string(name) + "\": " + std::to_string(value);
      };
      field("seconds", seconds);
      field("fills_in_that_time", fills);
      field("fills", readers.fills());
      field("stored", readers.stored().load());
      field("rejected", readers.rejected().load());
      field("selects", readers.selects().load());
      field("slowest_reader_ms", static_cast<double>(readers.slowest_us()) / 1e3);
      field("commits", commits.size());
      field("ordered", verdict.ordered);
      field("never_ordered", verdict.never_ordered);
      field("heard", verdict.stored);
      field("stale_fills", verdict.stale_fills);
      field("stale_kept", verdict.stale_kept);
      field("longest_stale_ms", static_cast<double>(verdict.longest_stale_us) / 1e3);
      field("stale_beyond_bound", verdict.stale_beyond_bound);
      field("values_left", left.values);
      field("stale_left", left.stale);
      field("unheard", left.unheard);
      say(out + "}");
      return 0;
    }
  }
  fail("the input ended before 'finish'");
}

}  // namespace
}  // namespace evictd::race

int main(int count, char** words) { return evictd::race::race(evictd::race::parse(count, words)); }
