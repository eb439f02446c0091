// The commands of evictd, one file each. Each takes what the command line said and returns the exit
// code: 0 done or stopped as asked, 1 failed (a restart may help), 2 the command line or
// configuration must change. They write their answer to standard output and errors to standard
// error.
#pragma once

#include "daemon/app/command_line.h"

namespace evictd {

inline constexpr int kExitDone = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;

int exit_code(const Error& error);
// Prints the error with its hint; returns its exit code.
int report(const Error& error);

int run_command(const CommandLine& request);
int check_command(const CommandLine& request);
int audit_command(const CommandLine& request);
int explain_command(const CommandLine& request);
int watch_command(const CommandLine& request);
int purge_command(const CommandLine& request);
int warm_command(const CommandLine& request);
int drop_command(const CommandLine& request);
int lua_command(const CommandLine& request);
int rules_command(const CommandLine& request);
int init_command(const CommandLine& request);

}  // namespace evictd
