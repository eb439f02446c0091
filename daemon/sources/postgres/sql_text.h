// SQL as text: names and strings as a person, or the server, reads them. Pure.
#pragma once

#include <string>
#include <string_view>

namespace evictd {

// 'it''s'; with a backslash in it E'...', which reads the same whatever standard_conforming_strings says.
std::string quoted_text(std::string_view text);
// "My-Pub", always in quotes: for statements that we send.
std::string quoted_name(std::string_view name);
// For a person: without the quotes where none are needed.
std::string shown_name(std::string_view name);

// Whether the index i of the table c (pg_index, pg_class) is what its rows are identified by in the stream. As the server sees
// it: a key that is DEFERRABLE, or whose index is invalid, identifies nothing, and UPDATE of the table would be refused once
// it is published.
inline constexpr std::string_view kIsIdentity =
    "i.indisvalid and i.indimmediate and (c.relreplident = 'd' and i.indisprimary or c.relreplident = 'i' and i.indisreplident)";

}  // namespace evictd
