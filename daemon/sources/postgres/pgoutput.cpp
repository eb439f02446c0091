#include "daemon/sources/postgres/pgoutput.h"

#include "daemon/sources/postgres/value_types.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <utility>

#include "daemon/sources/postgres/stream_frames.h"
#include "mapping/check.h"

namespace evictd {
namespace {

// Microseconds from the Unix epoch to PostgreSQL's, 2000-01-01.
constexpr std::int64_t kPostgresEpoch = 946'684'800'000'000;

// Of one TRUNCATE: each of them is locked, and a server has room for some thousands of locks. A message has room for millions.
constexpr std::uint32_t kTruncatedMax = 65'536;

std::uint64_t next_generation() {
  static std::atomic<std::uint64_t> last{0};
  return ++last;
}

bool is_ascii(std::string_view text) {
  return std::none_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; });
}

bool is_same_shape(const Relation& a, const Relation& b) {
  if (a.schema != b.schema || a.table != b.table || a.also != b.also || a.columns.size() != b.columns.size())
    return false;
  for (std::size_t i = 0; i < a.columns.size(); ++i) {
    const Column& x = a.columns[i];
    const Column& y = b.columns[i];
    if (x.name != y.name || x.type != y.type || x.element != y.element || x.in_identity != y.in_identity) return false;
  }
  return true;
}

}  // namespace

// The one reader of bytes. Past the end it returns zeros and remembers that it failed: callers read
// a whole structure and ask ok() before they believe any of it.
class PgoutputDecoder::Cursor {
 public:
  explicit Cursor(std::string_view bytes)
      : begin_(bytes.data()), at_(bytes.data()), end_(bytes.data() + bytes.size()) {}

  bool ok() const { return !failed_; }
  bool at_end() const { return at_ == end_; }
  std::size_t offset() const { return static_cast<std::size_t>(at_ - begin_); }

  std::uint8_t u8() { return static_cast<std::uint8_t>(number<std::uint8_t>()); }
  std::uint16_t u16() { return __builtin_bswap16(number<std::uint16_t>()); }
  std::uint32_t u32() { return __builtin_bswap32(number<std::uint32_t>()); }
  std::uint64_t u64() { return __builtin_bswap64(number<std::uint64_t>()); }
  char letter() { return static_cast<char>(u8()); }

  std::string_view bytes(std::size_t length) {
    if (failed_ || length > left()) return cut();
    const std::string_view result(at_, length);
    at_ += length;
    return result;
  }

  // A string that ends with a zero byte, which is not part of the result.
  std::string_view text() {
    const void* zero = left() == 0 ? nullptr : std::memchr(at_, 0, left());
    if (failed_ || zero == nullptr) return cut();
    const std::string_view result =
        bytes(static_cast<std::size_t>(static_cast<const char*>(zero) - at_));
    ++at_;
    return result;
  }

 private:
  static_assert(std::endian::native == std::endian::little);

  template <typename T>
  T number() {
    T value = 0;
    if (failed_ || sizeof(T) > left()) {
      cut();
      return 0;
    }
    std::memcpy(&value, at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }

  std::size_t left() const { return static_cast<std::size_t>(end_ - at_); }
  std::string_view cut() {
    failed_ = true;
    at_ = end_;
    return {};
  }

  const char* begin_;
  const char* at_;
  const char* end_;
  bool failed_ = false;
};

namespace {

tl::unexpected<Error> cut_short(char type) {
  return fail(ErrorKind::kData, fmt::format("pgoutput message '{}' is cut short", type));
}

tl::unexpected<Error> malformed(char type, std::string_view what) {
  return fail(ErrorKind::kData, fmt::format("pgoutput message '{}' is malformed: {}", type, what));
}

}  // namespace

PgoutputDecoder::PgoutputDecoder() = default;
PgoutputDecoder::~PgoutputDecoder() = default;

void PgoutputDecoder::restart(bool is_as_stored) {
  in_transaction_ = false;
  is_as_stored_ = is_as_stored;
}

void PgoutputDecoder::set_names(Oid relation, std::vector<TableName> names) {
  EVICTD_CHECK(!names.empty());
  names_[relation] = std::move(names);
}

std::optional<PgoutputDecoder::Described> PgoutputDecoder::described(
    std::string_view message) const {
  Cursor cursor(message);
  if (cursor.letter() != 'R') return std::nullopt;
  Described result;
  result.relation = cursor.u32();
  result.name.schema = cursor.text();
  result.name.table = cursor.text();
  cursor.u8();  // replica identity
  const std::size_t count = cursor.u16();
  for (std::size_t i = 0; i < count && cursor.ok(); ++i) {
    cursor.u8();  // flags
    cursor.text();
    const Oid type = cursor.u32();
    cursor.u32();  // type modifier
    const bool is_known = type < kGenericTypesMin || base_types_.count(type) != 0;
    if (!is_known) result.unknown_types.push_back(type);
  }
  if (!cursor.ok()) return std::nullopt;
  return result;
}

Result<void> PgoutputDecoder::decode(Lsn start, std::string_view message,
                                     PgoutputReceiver& receiver) {
  Cursor cursor(message);
  const char type = cursor.letter();
  if (!cursor.ok()) return fail(ErrorKind::kData, "pgoutput message is empty");
  if (type != 'R' && type != 'Y') described_before_.reset();
  switch (type) {
    case 'I':
    case 'U':
    case 'D':
      return decode_row(type, cursor, receiver);
    case 'B':
      return decode_begin(cursor, receiver);
    case 'C':
      return decode_commit(start, cursor, receiver);
    case 'R':
      return decode_relation(cursor, receiver);
    case 'T':
      return decode_truncate(cursor, receiver);
    case 'M':
      return decode_message(cursor, receiver);
    case 'Y':  // a type's name: values are text, nothing to learn
      cursor.u32();
      cursor.text();
      cursor.text();
      return cursor.ok() && cursor.at_end() ? Result<void>() : malformed(type, "not a type's name");
    case 'O':  // where a replicated change came from: does not matter, the row changed
      cursor.u64();
      cursor.text();
      return cursor.ok() && cursor.at_end() ? Result<void>() : malformed(type, "not an origin");
    case 'A':  // PostgreSQL 18 sends stray stream aborts, also under protocol 1
      if (in_transaction_) return malformed(type, "an abort inside a transaction that was sent whole");
      return {};
    default:
      static_cast<void>(start);
      return fail(ErrorKind::kData,
                  fmt::format("expected a pgoutput message of protocol 1, got type {:#04x}",
                              static_cast<unsigned char>(type)));
  }
}

Result<void> PgoutputDecoder::decode_begin(Cursor& cursor, PgoutputReceiver& receiver) {
  BeginMessage begin;
  begin.commit_lsn = Lsn{cursor.u64()};
  const auto time = static_cast<std::int64_t>(cursor.u64());
  begin.xid = cursor.u32();
  if (!cursor.ok()) return cut_short('B');
  if (!cursor.at_end()) return malformed('B', "longer than expected");
  if (in_transaction_) return malformed('B', "a transaction begins inside another");
  std::int64_t unix_time = 0;
  if (__builtin_add_overflow(time, kPostgresEpoch, &unix_time))
    return malformed('B', "impossible commit time");
  begin.commit_time = SystemTime(std::chrono::microseconds(unix_time));
  in_transaction_ = true;
  begin_ = begin;
  receiver.on_begin(begin);
  return {};
}

// The position that will be acknowledged must be borne out by what else the stream says of the same commit.
Result<void> PgoutputDecoder::decode_commit(Lsn start, Cursor& cursor, PgoutputReceiver& receiver) {
  cursor.u8();  // flags, unused
  // Where the commit record begins: acknowledging it would send the transaction again.
  const Lsn record{cursor.u64()};
  const Lsn end{cursor.u64()};
  const auto time = static_cast<std::int64_t>(cursor.u64());
  if (!cursor.ok()) return cut_short('C');
  if (!cursor.at_end()) return malformed('C', "longer than expected");
  if (!in_transaction_) return malformed('C', "a commit without a begin");
  std::int64_t unix_time = 0;
  const bool is_borne_out = record == begin_.commit_lsn && end > record && (start == Lsn{} || start == end) &&
                            !__builtin_add_overflow(time, kPostgresEpoch, &unix_time) &&
                            SystemTime(std::chrono::microseconds(unix_time)) == begin_.commit_time;
  if (!is_borne_out) return malformed('C', "it is not the commit of the transaction that began");
  in_transaction_ = false;
  receiver.on_commit(end);
  return {};
}

// A description always replaces the one before it: rows are decoded by the one in force.
Result<void> PgoutputDecoder::decode_relation(Cursor& cursor, PgoutputReceiver& receiver) {
  Shape shape{std::make_unique<Relation>(), false};
  Relation& relation = *shape.relation;
  relation.id = cursor.u32();
  relation.schema = cursor.text();
  if (relation.schema.empty())
    relation.schema = "pg_catalog";  // the manual: empty means pg_catalog
  relation.table = cursor.text();
  shape.is_full = cursor.letter() == 'f';
  const std::size_t count = cursor.u16();
  if (!cursor.ok()) return cut_short('R');
  for (std::size_t i = 0; i < count; ++i) {
    Column column;
    column.in_identity = (cursor.u8() & 1) != 0;
    column.name = cursor.text();
    const Oid type = cursor.u32();
    column.type = type_of(type);
    column.element = element_of(type);
    cursor.u32();  // type modifier
    if (!cursor.ok()) return cut_short('R');
    relation.columns.push_back(std::move(column));
  }
  if (!cursor.at_end()) return malformed('R', "longer than expected");
  if (const auto names = names_.find(relation.id); names != names_.end()) {
    relation.schema = names->second.front().schema;
    relation.table = names->second.front().table;
    relation.also.assign(names->second.begin() + 1, names->second.end());
  }
  learn_of_partition(shape, receiver);
  described_before_ = Shape{std::make_unique<Relation>(relation), shape.is_full};
  weaken(shape);
  describe(std::move(shape), receiver);
  return {};
}

void PgoutputDecoder::describe(Shape shape, PgoutputReceiver& receiver) {
  Relation& relation = *shape.relation;
  const auto found = shapes_.find(relation.id);
  if (found != shapes_.end()) {
    if (found->second.is_full == shape.is_full && is_same_shape(*found->second.relation, relation)) return;
    receiver.on_relation_gone(*found->second.relation);
  }
  relation.generation = next_generation();
  last_oid_ = 0;
  last_shape_ = nullptr;
  shapes_[relation.id] = std::move(shape);
}

void PgoutputDecoder::weaken(Shape& shape) const {
  const auto of_root = not_logged_.find(shape.relation->id);
  if (of_root == not_logged_.end()) return;
  for (const auto& [leaf, names] : of_root->second) {
    for (Column& column : shape.relation->columns) {
      if (!column.in_identity || !names.contains(column.name)) continue;
      column.in_identity = false;
      shape.is_full = false;
    }
  }
}

// Tables that are truncated together are described one after the other as well; what one of them lacks is then missed in the
// other, too: in doubt a value was not sent.
void PgoutputDecoder::learn_of_partition(const Shape& leaf, PgoutputReceiver& receiver) {
  std::optional<Shape> root = std::exchange(described_before_, std::nullopt);
  if (!root || root->relation->id == leaf.relation->id) return;
  const Relation& above = *root->relation;
  const auto is_above = [&](const std::string& schema, const std::string& table) { return schema == above.schema && table == above.table; };
  const bool is_below = is_above(leaf.relation->schema, leaf.relation->table) ||
                        std::any_of(leaf.relation->also.begin(), leaf.relation->also.end(),
                                    [&](const TableName& name) { return is_above(name.schema, name.table); });
  if (!is_below) return;
  std::set<std::string> lacks;
  for (const Column& column : above.columns) {
    if (column.in_identity) lacks.insert(column.name);
  }
  for (const Column& column : leaf.relation->columns) {
    if (column.in_identity) lacks.erase(column.name);
  }
  std::map<Oid, std::set<std::string>>& of_root = not_logged_[above.id];
  if (!lacks.empty()) {
    of_root[leaf.relation->id] = std::move(lacks);
  } else if (of_root.erase(leaf.relation->id) == 0) {
    return;  // as nearly always
  }
  weaken(*root);
  describe(std::move(*root), receiver);
}

Result<const PgoutputDecoder::Shape*> PgoutputDecoder::shape_of(Oid relation, char type) {
  if (last_shape_ != nullptr && relation == last_oid_) return last_shape_;
  const auto found = shapes_.find(relation);
  if (found == shapes_.end()) {
    return malformed(type, fmt::format("relation {} was never described", relation));
  }
  last_oid_ = relation;
  last_shape_ = &found->second;
  return last_shape_;
}

// One tuple. Kinds of values: 'n' null, or in a 'K' tuple a column that is not part of the key; 'u'
// unchanged and stored out of line; 't' text; and our own for what was left out of a row that is too large. What is beyond ASCII in another encoding was
// not sent either.
//
//   tuple   'n' of a key column   'n' of another column
//   N       null                  null
//   O       null                  not sent (there is one only below a root: not_logged_)
//   K       null                  not sent
bool PgoutputDecoder::read_row(Cursor& cursor, const Shape& shape, char kind,
                               std::vector<Value>& row) const {
  const std::vector<Column>& columns = shape.relation->columns;
  if (cursor.u16() != columns.size()) return false;
  row.resize(columns.size());
  for (std::size_t i = 0; i < columns.size(); ++i) {
    Value& value = row[i];
    value.text = {};
    switch (cursor.letter()) {
      case 't':
        value.text = cursor.bytes(cursor.u32());
        value.state = ValueState::kText;
        if (is_as_stored_ && !is_ascii(value.text)) value = Value{};
        break;
      case 'n':
        value.state =
            kind != 'N' && !columns[i].in_identity ? ValueState::kNotSent : ValueState::kNull;
        break;
      case 'u':
        value.state = ValueState::kUnchanged;
        break;
      case StreamFrames::kLeftOut:
        value.state = ValueState::kNotSent;
        break;
      default:
        return false;
    }
    if (!cursor.ok()) return false;
  }
  return true;
}

Result<void> PgoutputDecoder::decode_row(char type, Cursor& cursor, PgoutputReceiver& receiver) {
  const Oid oid = cursor.u32();
  char kind = cursor.letter();
  if (!cursor.ok()) return cut_short(type);
  if (!in_transaction_) return malformed(type, "a row outside a transaction");
  const auto shape = shape_of(oid, type);
  if (!shape) return tl::unexpected<Error>(shape.error());

  const auto bad_row = [&] {
    return cursor.ok() ? malformed(type, "a row that does not fit its table") : cut_short(type);
  };
  Change change;
  change.relation = (*shape)->relation.get();
  const bool has_old = type != 'I' && (kind == 'K' || kind == 'O');
  if (has_old) {
    if (!read_row(cursor, **shape, kind, old_row_)) return bad_row();
    change.old_row = old_row_;
    if (type == 'U') kind = cursor.letter();
  }
  if (type == 'D') {
    if (!has_old) return malformed(type, "expected an old row");
    change.operation = Operation::kDelete;
  } else {
    if (!cursor.ok()) return cut_short(type);
    if (kind != 'N') return malformed(type, "expected a new row");
    if (!read_row(cursor, **shape, 'N', new_row_)) return bad_row();
    change.operation = type == 'I' ? Operation::kInsert : Operation::kUpdate;
    if (has_old && (*shape)->is_full) {
      // REPLICA IDENTITY FULL sends the old value of what is stored out of line and did not change.
      for (std::size_t i = 0; i < new_row_.size(); ++i) {
        if (new_row_[i].state == ValueState::kUnchanged) new_row_[i] = old_row_[i];
      }
    }
    change.new_row = new_row_;
  }
  if (!cursor.at_end()) return malformed(type, "longer than expected");
  receiver.on_change(change);
  return {};
}

Result<void> PgoutputDecoder::decode_truncate(Cursor& cursor, PgoutputReceiver& receiver) {
  const std::uint32_t count = cursor.u32();
  cursor.u8();  // CASCADE and RESTART IDENTITY: the tables that CASCADE reached are listed too
  if (!cursor.ok()) return cut_short('T');
  if (!in_transaction_) return malformed('T', "a truncate outside a transaction");
  if (count > kTruncatedMax) return malformed('T', fmt::format("expected at most {} tables, got {}", kTruncatedMax, count));
  for (std::uint32_t i = 0; i < count; ++i) {
    const Oid oid = cursor.u32();
    if (!cursor.ok()) return cut_short('T');
    const auto shape = shape_of(oid, 'T');
    if (!shape) return tl::unexpected<Error>(shape.error());
    Change change;
    change.operation = Operation::kTruncate;
    change.relation = (*shape)->relation.get();
    receiver.on_change(change);
  }
  if (!cursor.at_end()) return malformed('T', "longer than expected");
  return {};
}

Result<void> PgoutputDecoder::decode_message(Cursor& cursor, PgoutputReceiver& receiver) {
  cursor.u8();   // transactional or not: both are fine
  cursor.u64();  // its position
  const std::string_view prefix = cursor.text();
  const std::string_view content = cursor.bytes(cursor.u32());
  if (!cursor.ok()) return cut_short('M');
  if (!cursor.at_end()) return malformed('M', "longer than expected");
  receiver.on_logical_message(prefix, content);
  return {};
}

// The object identifiers of the types whose text form is not canonical (catalog/pg_type.dat; fixed
// for ever).
ValueType value_type_of(Oid type) {
  switch (type) {
    case 16:
      return ValueType::kBoolean;
    case 17:
      return ValueType::kBytea;
    case 114:
    case 3802:
      return ValueType::kJson;
    case 1082:
      return ValueType::kDate;
    case 1114:
      return ValueType::kTimestamp;
    case 1184:
      return ValueType::kTimestampTz;
    case 2950:
      return ValueType::kUuid;
    default:
      return ValueType::kText;
  }
}

ValueType PgoutputDecoder::type_of(Oid type) const {
  const auto base = base_types_.find(type);
  return value_type_of(base == base_types_.end() ? type : base->second);
}

ValueType element_type_of(Oid type) {
  switch (type) {
    case 1000:
      return ValueType::kBoolean;
    case 1001:
      return ValueType::kBytea;
    case 199:
    case 3807:
      return ValueType::kJson;
    case 1182:
      return ValueType::kDate;
    case 1115:
      return ValueType::kTimestamp;
    case 1185:
      return ValueType::kTimestampTz;
    case 2951:
      return ValueType::kUuid;
    default:
      return ValueType::kText;
  }
}

ValueType PgoutputDecoder::element_of(Oid type) const {
  const auto base = base_types_.find(type);
  return element_type_of(base == base_types_.end() ? type : base->second);
}

}  // namespace evictd
