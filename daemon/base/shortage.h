// What a person can do where the machine, or a limit of the process, has nothing more to give.
#pragma once

#include <string_view>

namespace evictd {

inline constexpr std::string_view kThreadsHint = "let evictd have more threads: TasksMax of its unit, ulimit -u of a shell";
inline constexpr std::string_view kFilesHint = "let evictd open more files: LimitNOFILE of its unit, ulimit -n of a shell";

}  // namespace evictd
