// Texts as PostgreSQL prints them, from the encodings that Debezium uses. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace evictd {

// Standard alphabet, padding optional. Empty when it is not base64.
std::optional<std::string> decode_base64(std::string_view text);

void append_base64(std::string_view bytes, std::string& text);
// In quotes, escaped. What is not UTF-8 stays as it is.
void append_json_text(std::string_view text, std::string& json);

// "\xdeadbeef"
std::string bytea_text(std::string_view bytes);

// A big-endian two's complement number divided by 10^scale: "-12.50". A negative scale appends
// zeros. Empty when it is longer than kDecimalBytesMax or the scale is out of reason.
inline constexpr std::size_t kDecimalBytesMax = 64 * 1024;
inline constexpr std::int32_t kDecimalScaleMax = 20'000;
std::optional<std::string> decimal_text(std::string_view big_endian, std::int32_t scale);

// The shortest text that reads back as the same float, in PostgreSQL's layout ("1e+20", "0.0001").
std::string float8_text(double value);
std::string float4_text(float value);

// Days since 1970-01-01 -> "2024-02-03"; years before 1 AD as "0044-03-15 BC".
std::string date_text(std::int64_t days);
// `units` of 1/unit second since midnight -> "04:05:06.789".
std::string time_text(std::int64_t units, std::int64_t unit);
// `units` of 1/unit second since 1970-01-01 00:00 -> "2024-02-03 04:05:06.789" + suffix before any
// " BC".
std::string timestamp_text(std::int64_t units, std::int64_t unit, std::string_view suffix);

// ISO 8601 with 'Z' or an offset -> "2024-02-03 04:05:06.789+00". Empty when it is not of that
// form.
std::optional<std::string> zoned_timestamp_text(std::string_view iso);

// ISO 8601, any year and with or without 'Z' -> "2024-02-03", "0044-03-15 BC". Empty when it is not of that form.
std::optional<std::string> iso_date_text(std::string_view iso);
// "P1Y2M3DT4H5M6.7S", each part with a sign of its own -> "1 year 2 mons 3 days 04:05:06.7". Empty when it is not of
// that form.
std::optional<std::string> iso_interval_text(std::string_view iso);

// What Debezium writes for PostgreSQL's infinities, which its types have no value for: "infinity", "-infinity", or
// empty for any other.
std::string_view infinite_days_text(std::int64_t days);
std::string_view infinite_timestamp_text(std::int64_t units, std::int64_t unit);

// `length` bits, the lowest in the first byte's lowest bit -> "0101", the highest first.
std::string bit_text(std::string_view little_endian, std::size_t length);

// Appends one element to the inside of an array literal, quoted where PostgreSQL quotes it.
void append_array_element(std::string& literal, std::string_view element);

}  // namespace evictd
