// Canonical text: the one text of a value, whichever source it came by. Key texts are built from it
// and conditions compare it, so the same row gives the same keys through pgoutput and through
// Debezium.
//
//   boolean      t, f                              true, false
//   uuid         A0EEBC99-...                      a0eebc99-...
//   timestamp    2024-02-03 04:05:06.789           2024-02-03T04:05:06.789
//   timestamptz  2024-02-03 04:05:06.789+00        2024-02-03T04:05:06.789Z
//   bytea        \xDEADBEEF                        deadbeef
//   json, jsonb  {"a": [1, 2]}                     {"a":[1,2]}     (text inside strings is kept)
//   the rest     numbers, text, date, arrays ...   as sent
//
// PostgreSQL's special forms are kept: 'infinity' and '-infinity' as sent, ' BC' at the end. A text
// that does not have the expected form is kept as sent, too: it is what the database says. Rests on
// the session settings that the PostgreSQL source pins (TimeZone=UTC, DateStyle=ISO,
// bytea_output=hex).
#pragma once

#include <string>
#include <string_view>

#include "mapping/change.h"

namespace evictd {

// True when the canonical text of this type is the text as sent.
constexpr bool is_canonical_as_sent(ValueType type) {
  return type == ValueType::kText || type == ValueType::kCanonical || type == ValueType::kDate;
}

// Appends the canonical text to `out`.
void append_canonical(ValueType type, std::string_view text, std::string& out);

}  // namespace evictd
