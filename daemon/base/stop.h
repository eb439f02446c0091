// Where those who wait for a server see that this process is to end. One for the process, as its signals are (app/signals.h
// says when): a person who ends a command is not to wait for a server that hangs.
#pragma once

#include <atomic>

namespace evictd {

// Readable from when the process is to end; -1: whoever waits goes on, and is told by others.
inline std::atomic<int> stop_descriptor{-1};

}  // namespace evictd
