// EVICTD_CHECK(condition): an invariant of the program itself, checked in every build.
// Never used on input: bad input is an Error.
#pragma once

#include <cstdio>
#include <cstdlib>

#define EVICTD_CHECK(condition)                                                        \
  do {                                                                                 \
    if (!(condition)) [[unlikely]] {                                                   \
      std::fprintf(stderr, "%s:%d: evictd invariant broken: %s\n", __FILE__, __LINE__, \
                   #condition);                                                        \
      std::abort();                                                                    \
    }                                                                                  \
  } while (false)
