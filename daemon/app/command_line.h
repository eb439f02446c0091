// The command line: what the person asked for, or what was wrong with it in one line and a hint.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mapping/change.h"
#include "mapping/error.h"

namespace evictd {

enum class Verb : std::uint8_t {
  kHelp,
  kVersion,
  kRun,
  kCheck,
  kAudit,
  kExplain,
  kWatch,
  kPurge,
  kWarm,
  kDrop,
  kLua,
  kRules,
  kInit,
  kCompletion,
  kMan,
};

struct CommandLine {
  Verb verb = Verb::kHelp;
  std::string help_topic;  // kHelp: a command, or empty
  std::string config = "evictd.yaml";

  bool offline = false;  // check
  bool sql = false;      // check
  bool acl = false;      // check
  bool json = false;     // check, watch, audit

  std::vector<std::string> case_files;  // rules test

  std::string postgres_url;      // init
  std::string redis_url;         // init
  std::string directory = ".";   // init

  std::string table;  // explain, purge, watch
  bool from_table = false;  // explain: rows that are in the table now
  std::string where;  // explain, purge, warm: SQL
  std::optional<std::chrono::milliseconds> since;  // purge
  std::uint64_t limit = 10;  // explain: rows
  std::string rule;   // watch, audit, warm
  Operation operation = Operation::kUpdate;
  bool has_operation = false;
  std::string old_row;                         // JSON; empty: not sent
  std::string new_row;                         // JSON
  std::vector<std::string> identity = {"id"};  // columns of the replica identity

  std::string shell = "bash";  // completion: bash, zsh, fish
  std::string pattern;   // purge
  std::optional<std::uint64_t> samples;           // audit
  std::optional<std::chrono::milliseconds> time;  // audit
  std::uint64_t rate = 20;                        // audit: questions per second
  bool fix = false;                               // audit
  std::optional<std::uint64_t> per_second;        // warm: keys; nothing: as the rule says
  bool cluster = false;                           // lua
  bool scripts = false;                           // lua
  bool yes = false;      // purge, drop
};

// `arguments` without the program's name. Errors are kUsage.
Result<CommandLine> parse_command_line(const std::vector<std::string>& arguments);

// The words after 'evictd', in the order of the help.
std::vector<std::string_view> command_names();
// The long options that a command knows, with their dashes; "--help" is not among them.
std::vector<std::string> command_options(std::string_view command);

// What --help prints; `topic` as in CommandLine.
std::string help_text(std::string_view topic);

}  // namespace evictd
