// Ports of 127.0.0.1 for the servers of tests, each given to one process at a time.
//
// A port that was merely free a moment ago may be taken by a test beside this one, or become the near end of somebody's
// connection, before its server binds it; the test then speaks to a stranger. So a port is reserved: by a lock on a file
// named after it, which every test program of this user (tests/harness/process.py too) asks for first, and which the kernel
// gives back when the process ends, whatever way it ends. And it is one from below the range from which the kernel takes
// ports for connections (ip(7), ip_local_port_range).
#pragma once

namespace evictd::testing {

// Nobody listens on it now, and no other test will until this process ends. Aborts the program when there is none.
int free_port();

}  // namespace evictd::testing
