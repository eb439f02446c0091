#include "daemon/sinks/redis/record_text.h"

#include "daemon/base/text.h"

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

bool read_line(std::string_view word, std::string_view value, Record& record) {
  if (word == "writer") return decode_percent(value, record.writer);
  if (word == "sequence") return read_number(value, record.sequence);
  if (word == "instance") return decode_percent(value, record.source_instance);
  if (word == "epoch") return decode_percent(value, record.epoch);
  if (word == "identity") return decode_percent(value, record.source_identity);
  if (word == "gap") {
    std::string reason;
    return decode_percent(value, reason) && record.gaps.insert(std::move(reason)).second;
  }
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
  std::string name;
  if (!decode_percent(rest, name)) return false;
  if (word == "acknowledged") return read_number(first, record.acknowledged[name]);
  if (word == "applied") return read_number(first, record.applied[name]);
  if (word == "committed") return read_number(first, record.committed[name]);
  if (word == "rules") return read_number(first, record.rules[name]);
  return word == "table" && decode_percent(first, record.tables[name]);
}

}  // namespace

std::string record_to_text(const Record& record) {
  std::string text = "evictd-record 3\nwriter ";
  append_escaped(text, record.writer);
  text += "\nsequence " + std::to_string(record.sequence) + "\nepoch ";
  append_escaped(text, record.epoch);
  text += "\ninstance ";
  append_escaped(text, record.source_instance);
  text += "\nepoch_since " + std::to_string(record.epoch_since.count()) + "\nidentity ";
  append_escaped(text, record.source_identity);
  for (const std::string& reason : record.gaps) {
    text += "\ngap ";
    append_escaped(text, reason);
  }
  for (const auto& [stream, position] : record.acknowledged) {
    text += "\nacknowledged " + std::to_string(position) + ' ';
    append_escaped(text, stream);
  }
  for (const auto& [stream, position] : record.applied) {
    text += "\napplied " + std::to_string(position) + ' ';
    append_escaped(text, stream);
  }
  for (const auto& [stream, position] : record.committed) {
    text += "\ncommitted " + std::to_string(position) + ' ';
    append_escaped(text, stream);
  }
  for (const auto& [table, digest] : record.tables) {
    text += "\ntable ";
    append_escaped(text, digest);
    text += ' ';
    append_escaped(text, table);
  }
  for (const auto& [table, digest] : record.rules) {
    text += "\nrules " + std::to_string(digest) + ' ';
    append_escaped(text, table);
  }
  return text + "\nend\n";
}

Result<Record> record_from_text(std::string_view text) {
  if (text.size() > kRecordBytesMax) {
    return fail(ErrorKind::kData, "expected a record of at most " + std::to_string(kRecordBytesMax) + " bytes, got " + std::to_string(text.size()));
  }
  Record record;
  bool has_version = false;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) break;
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 1);
    if (!has_version) {
      has_version = line == "evictd-record 3";
      if (has_version) continue;
      return fail(ErrorKind::kData, "expected 'evictd-record 3', got '" + std::string(line.substr(0, 40)) + "'");
    }
    if (line == "end") {
      if (!text.empty()) return fail(ErrorKind::kData, "expected nothing after 'end'");
      return record;
    }
    const std::size_t space = line.find(' ');
    if (space == std::string_view::npos ||
        !read_line(line.substr(0, space), line.substr(space + 1), record)) {
      return fail(ErrorKind::kData,
                  "expected a line of a record, got '" + std::string(line.substr(0, 40)) + "'");
    }
  }
  return fail(ErrorKind::kData, "expected 'end' at the end of the record");
}

}  // namespace evictd
