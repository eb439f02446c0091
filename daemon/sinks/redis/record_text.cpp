#include "daemon/sinks/redis/record_text.h"

#include "daemon/sinks/redis/text.h"

namespace evictd {
namespace {

// Values are free text (table names): spaces, line ends and '%' travel as %XX.
void append_escaped(std::string& out, std::string_view value) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte <= 0x20 || byte == '%' || byte == 0x7f) {
      out += '%';
      out += kDigits[byte >> 4];
      out += kDigits[byte & 15];
    } else {
      out += c;
    }
  }
}

// "<stream's number> <position>" of version 1, in which only PostgreSQL's one stream has a number that says which it was.
bool read_numbered_stream(std::string_view number, std::string_view position, Record& record) {
  std::uint64_t value = 0;
  std::uint32_t stream = 0;
  if (!read_number(number, stream) || !read_number(position, value)) return false;
  if (stream == 0) record.acknowledged[kOnlyStream] = value;
  return true;
}

bool read_line(int version, std::string_view word, std::string_view value, Record& record) {
  if (word == "writer") return decode_percent(value, record.writer);
  if (word == "sequence") return read_number(value, record.sequence);
  if (word == "instance") return decode_percent(value, record.source_instance);
  if (word == "epoch") return decode_percent(value, record.epoch);
  if (word == "identity") return decode_percent(value, record.source_identity);
  if (word == "gap") return decode_percent(value, record.gap);
  if (word == "epoch_since") {
    std::int64_t milliseconds = 0;
    if (!read_number(value, milliseconds)) return false;
    record.epoch_since = std::chrono::milliseconds(milliseconds);
    return true;
  }
  const std::size_t space = value.find(' ');
  if (space == std::string_view::npos) return false;
  const std::string_view first = value.substr(0, space);
  const std::string_view rest = value.substr(space + 1);
  if (word == "acknowledged" && version == 1) return read_numbered_stream(first, rest, record);
  std::string name;
  if (!decode_percent(rest, name)) return false;
  if (word == "acknowledged") return read_number(first, record.acknowledged[name]);
  return word == "table" && !first.empty() && decode_percent(first, record.tables[name]);
}

}  // namespace

std::string record_to_text(const Record& record) {
  std::string text = "evictd-record 2\nwriter ";
  append_escaped(text, record.writer);
  text += "\nsequence " + std::to_string(record.sequence) + "\nepoch ";
  append_escaped(text, record.epoch);
  text += "\ninstance ";
  append_escaped(text, record.source_instance);
  text += "\nepoch_since " + std::to_string(record.epoch_since.count()) + "\nidentity ";
  append_escaped(text, record.source_identity);
  if (!record.gap.empty()) {
    text += "\ngap ";
    append_escaped(text, record.gap);
  }
  for (const auto& [stream, position] : record.acknowledged) {
    text += "\nacknowledged " + std::to_string(position) + ' ';
    append_escaped(text, stream);
  }
  for (const auto& [table, digest] : record.tables) {
    text += "\ntable ";
    append_escaped(text, digest);
    text += ' ';
    append_escaped(text, table);
  }
  return text + "\nend\n";
}

Result<Record> record_from_text(std::string_view text) {
  Record record;
  int version = 0;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) break;
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 1);
    if (version == 0) {
      version = line == "evictd-record 2" ? 2 : line == "evictd-record 1" ? 1 : 0;
      if (version != 0) continue;
      return fail(ErrorKind::kData, "expected 'evictd-record 2', got '" + std::string(line.substr(0, 40)) + "'");
    }
    if (line == "end") {
      if (!text.empty()) return fail(ErrorKind::kData, "expected nothing after 'end'");
      return record;
    }
    const std::size_t space = line.find(' ');
    if (space == std::string_view::npos ||
        !read_line(version, line.substr(0, space), line.substr(space + 1), record)) {
      return fail(ErrorKind::kData,
                  "expected a line of a record, got '" + std::string(line.substr(0, 40)) + "'");
    }
  }
  return fail(ErrorKind::kData, "expected 'end' at the end of the record");
}

}  // namespace evictd
