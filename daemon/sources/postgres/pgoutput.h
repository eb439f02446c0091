// The pgoutput decoder: messages of PostgreSQL's logical replication protocol, version 1, text
// mode, into changes. Pure: no I/O, clock or log; safe on any input (fuzzed, and tested cut at
// every byte).
//
// Rests on: PostgreSQL manual, "Logical Replication Message Formats". Message letters are the
// protocol's. A decoder serves one slot for the life of a source: relations survive a reconnect
// (the server sends them again, and an equal description keeps the Relation object, so that rules
// stay bound to it).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/sources/postgres/lsn.h"
#include "mapping/change.h"
#include "mapping/error.h"

namespace evictd {

using Oid = std::uint32_t;

struct BeginMessage {
  Lsn commit_lsn;  // where the commit record begins; the position to acknowledge comes with the
                   // commit
  SystemTime commit_time;
  std::uint32_t xid = 0;  // the low 32 bits
};

// Receives what was decoded. Rows and texts are valid only during the call.
class PgoutputReceiver {
 public:
  virtual ~PgoutputReceiver() = default;
  virtual void on_begin(const BeginMessage& begin) = 0;
  virtual void on_change(const Change& change) = 0;
  virtual void on_commit(Lsn end) = 0;
  virtual void on_relation_gone(const Relation& relation) = 0;
  // pg_logical_emit_message() of anybody.
  virtual void on_logical_message(std::string_view prefix, std::string_view content) = 0;
};

// How the text of a value of that type is read, of a type that is no domain; and of an array that of its elements.
ValueType value_type_of(Oid type);
ValueType element_type_of(Oid type);

class PgoutputDecoder {
 public:
  PgoutputDecoder();
  ~PgoutputDecoder();
  PgoutputDecoder(const PgoutputDecoder&) = delete;
  PgoutputDecoder& operator=(const PgoutputDecoder&) = delete;

  // Decodes one message. `start` is where the stream says it begins; a commit says it twice; of rows it decides nothing,
  // because their positions are not in order. kData when the bytes are not what the manual says; the
  // stream must then be dropped.
  Result<void> decode(Lsn start, std::string_view message, PgoutputReceiver& receiver);

  // A new connection: a transaction that was cut off is forgotten, relations are kept. `is_as_stored`: the server sends
  // texts in an encoding that is not ours. Values beyond ASCII then count as not sent.
  void restart(bool is_as_stored = false);

  // Between a begin and its commit.
  bool in_transaction() const { return in_transaction_; }

  // Under which names a relation's changes appear from its next description on: those of the mapped tables that it
  // is or lies below. Relations without an entry keep their own. REQUIRES: at least one name.
  void set_names(Oid relation, std::vector<TableName> names);
  bool has_names(Oid relation) const { return names_.count(relation) != 0; }

  // What a type's values read like: a domain's like those of its base type, any other's like its own.
  void set_base_type(Oid type, Oid base) { base_types_[type] = base; }

  struct Described {
    Oid relation = 0;
    TableName name;
    std::vector<Oid> unknown_types;  // not PostgreSQL's own, and never told to set_base_type()
  };
  // The table that `message` describes, when it is a whole relation message.
  std::optional<Described> described(std::string_view message) const;

 private:
  class Cursor;
  struct Shape {
    std::unique_ptr<Relation> relation;
    bool is_full = false;  // REPLICA IDENTITY FULL
  };

  Result<void> decode_begin(Cursor& cursor, PgoutputReceiver& receiver);
  Result<void> decode_commit(Lsn start, Cursor& cursor, PgoutputReceiver& receiver);
  Result<void> decode_relation(Cursor& cursor, PgoutputReceiver& receiver);
  // Puts a description in force, in place of the one before it.
  void describe(Shape shape, PgoutputReceiver& receiver);
  // Of a root, the columns that the rows of some partition come without: see below.
  void weaken(Shape& shape) const;
  void learn_of_partition(const Shape& leaf, PgoutputReceiver& receiver);
  Result<void> decode_row(char type, Cursor& cursor, PgoutputReceiver& receiver);
  Result<void> decode_truncate(Cursor& cursor, PgoutputReceiver& receiver);
  Result<void> decode_message(Cursor& cursor, PgoutputReceiver& receiver);
  Result<const Shape*> shape_of(Oid relation, char type);
  bool read_row(Cursor& cursor, const Shape& shape, char kind, std::vector<Value>& row) const;
  ValueType type_of(Oid type) const;
  ValueType element_of(Oid type) const;

  std::unordered_map<Oid, Shape> shapes_;
  // With publish_via_partition_root the rows of a partition come under its root's description, but what of an old row is
  // logged is decided by the partition's own replica identity: columns beyond it come as null. Both are described one right
  // after the other, root first, before the first row of each partition. By root and partition: columns of the root's
  // identity that are not logged, where there are any. (src/backend/replication/pgoutput/pgoutput.c, maybe_send_schema.)
  std::unordered_map<Oid, std::map<Oid, std::set<std::string>>> not_logged_;
  // What the last message but for those of types described, by its own word.
  std::optional<Shape> described_before_;
  std::unordered_map<Oid, std::vector<TableName>> names_;
  std::unordered_map<Oid, Oid> base_types_;
  std::vector<Value> old_row_;
  std::vector<Value> new_row_;
  // Rows come in runs of one table; saves the lookup.
  Oid last_oid_ = 0;
  const Shape* last_shape_ = nullptr;
  bool in_transaction_ = false;
  bool is_as_stored_ = false;
  BeginMessage begin_;  // of the transaction in hand
};

}  // namespace evictd
