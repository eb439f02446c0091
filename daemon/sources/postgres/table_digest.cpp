#include "daemon/sources/postgres/table_digest.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <vector>

namespace evictd {
namespace {

constexpr std::uint64_t kFnvOffset = 14'695'981'039'346'656'037u;
constexpr std::uint64_t kFnvPrime = 1'099'511'628'211u;
constexpr std::size_t kParts = 10;
constexpr std::size_t kPartsWithoutWays = 8;  // of an evictd that kept no ways and no place

// A hash that goes on from the one before: the hash of a list is also the hash of each of its beginnings, which is
// how a list that has only grown is told from one that has changed.
std::uint64_t chain(std::uint64_t hash, std::string_view text) {
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * kFnvPrime;
  return (hash ^ 0x1f) * kFnvPrime;  // so that "ab","c" is not "a","bc"
}

std::string hex(std::uint64_t hash) { return fmt::format("{:016x}", hash); }

// The hash of the first 0, 1, 2 ... elements.
std::vector<std::string> beginnings(const std::vector<std::string>& elements) {
  std::vector<std::string> hashes;
  std::uint64_t hash = kFnvOffset;
  hashes.push_back(hex(hash));
  for (const std::string& element : elements) hashes.push_back(hex(hash = chain(hash, element)));
  return hashes;
}

struct Lists {
  std::vector<const RelationFacts*> relations;  // the table, then what lies below it, oldest first
  std::vector<std::string> members, publication, columns, labels, storage, ways;
  std::vector<std::string> names, traits;  // of the table, then of each column
};

// What keeps `relation` published: its own name in the publication, before all else; then the row that keeps the rule's
// table published too, since what lies between them is judged by `members`; then the nearest. None: it is not published.
const PublicationWay* way_of(const RelationFacts& relation, const TableFacts& table) {
  if (relation.ways.empty()) return nullptr;
  const PublicationWay& nearest = relation.ways.front();
  const bool is_named = nearest.ancestor == relation.oid && !nearest.by_schema;
  if (is_named || table.table.ways.empty()) return &nearest;
  const PublicationWay& of_table = table.table.ways.front();
  const auto shared = std::find_if(relation.ways.begin(), relation.ways.end(), [&](const PublicationWay& way) {
    return way.ancestor == of_table.ancestor && way.by_schema == of_table.by_schema;
  });
  return shared == relation.ways.end() ? &nearest : &*shared;
}

Lists lists_of(const TableFacts& table, const PublicationFacts& publication) {
  Lists lists;
  lists.relations.push_back(&table.table);
  for (const RelationFacts& member : table.members) lists.relations.push_back(&member);
  std::sort(lists.relations.begin() + 1, lists.relations.end(),
            [](const RelationFacts* a, const RelationFacts* b) { return a->oid < b->oid; });
  for (const RelationFacts* relation : lists.relations) {
    const bool is_root = relation == &table.table;
    lists.members.push_back(fmt::format("{} {} {}", relation->oid, relation->kind, is_root ? "" : relation->parents));
    // A relation below others must not be judged by what its table alone is: each has its own marks.
    lists.publication.push_back(fmt::format("{} {} {} {}", publication.mark, relation->oid, relation->is_published,
                                            relation->publication_marks));
    const PublicationWay* way = way_of(*relation, table);
    lists.ways.push_back(fmt::format("{} {}", relation->oid, way == nullptr ? "" : way->steps));
    lists.storage.push_back(fmt::format("{} {}", relation->oid, storage_mark(*relation, publication)));
  }
  lists.names.push_back(std::to_string(table.table.named_by));
  lists.traits.push_back(std::to_string(table.table.owner));
  for (const ColumnFacts& column : table.table.columns) {
    // Another expression changes the values of all rows, and rewrites none.
    const std::string computed = column.computed_by.empty() ? "" : " = " + column.computed_by;
    lists.columns.push_back(fmt::format("{} {} {}{}", column.number, column.name, column.type_text, computed));
    lists.names.push_back(std::to_string(column.written_by));
    lists.traits.push_back(column.traits);
  }
  for (const auto& [oid, label] : table.table.labels) lists.labels.push_back(fmt::format("{} {} {}", oid, label.text, label.written_by));
  return lists;
}

// Followed from its first row: made empty where it lies, and published without a word of its own.
bool is_followed_from_birth(const RelationFacts& relation, const TableFacts& table) {
  const PublicationWay* way = way_of(relation, table);
  const bool is_by_its_schema = way != nullptr && way->by_schema && way->ancestor == relation.oid;
  if (is_by_its_schema && !relation.is_born_in_schema) return false;  // moved in, with whatever was written to it before
  return relation.is_born_partition && relation.is_published &&
         (relation.publication_marks.empty() || relation.publication_marks == table.table.publication_marks ||
          relation.has_inherited_marks);
}

// Which beginning `hash` is; none: of another list.
std::optional<std::size_t> find_beginning(const std::vector<std::string>& list, const std::string& hash) {
  const auto all = beginnings(list);
  const auto found = std::find(all.begin(), all.end(), hash);
  return found == all.end() ? std::nullopt : std::optional<std::size_t>(found - all.begin());
}

}  // namespace

std::string storage_mark(const RelationFacts& relation, const PublicationFacts& publication) {
  const bool truncate_is_silent = publication.via_root && relation.is_partition;
  if (relation.toast != 0 && !truncate_is_silent) return fmt::format("{} toast {}", relation.persistence, relation.toast);
  return fmt::format("{} file {}", relation.persistence, relation.file);
}

std::string table_digest(const TableFacts& table, const PublicationFacts& publication) {
  const Lists lists = lists_of(table, publication);
  return fmt::format("{}/{}/{}/{}/{}/{}/{}/{}/{}/{}", table.table.oid, beginnings(lists.members).back(),
                     beginnings(lists.publication).back(), beginnings(lists.columns).back(),
                     beginnings(lists.labels).back(), beginnings(lists.storage).back(), beginnings(lists.names).back(),
                     beginnings(lists.traits).back(), beginnings(lists.ways).back(),
                     hex(chain(kFnvOffset, table.table.placed_by)));
}

TableVerdict compare_digest(const std::string& before, const TableFacts& now, const PublicationFacts& publication) {
  if (before == table_digest(now, publication)) return TableVerdict::kSame;
  std::vector<std::string> parts(1);
  for (const char c : before) {
    if (c == '/') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  if (parts[0] != std::to_string(now.table.oid)) return TableVerdict::kRecreated;
  if (parts.size() != kParts && parts.size() != kPartsWithoutWays) return TableVerdict::kGrown;  // of an evictd that kept less
  const Lists lists = lists_of(now, publication);
  const auto members = beginnings(lists.members);
  // Without the newest members, as long as those were followed from their first row.
  std::size_t known = lists.relations.size();
  while (members[known] != parts[1]) {
    if (known <= 1 || !is_followed_from_birth(*lists.relations[known - 1], now)) return TableVerdict::kMembers;
    --known;
  }
  if (beginnings(lists.publication)[known] != parts[2]) return TableVerdict::kPublication;
  const bool has_ways = parts.size() == kParts;
  if (has_ways && beginnings(lists.ways)[known] != parts[8]) return TableVerdict::kPublication;
  // Not a name among others: what its columns say besides explains no move.
  if (has_ways && parts[9] != hex(chain(kFnvOffset, now.table.placed_by))) return TableVerdict::kChanged;
  const auto columns = find_beginning(lists.columns, parts[3]);
  if (!columns || !find_beginning(lists.labels, parts[4]) || beginnings(lists.storage)[known] != parts[5]) {
    return TableVerdict::kChanged;
  }
  const std::size_t named = *columns + 1;  // the table itself is the first
  const bool is_written_anew = beginnings(lists.names)[named] != parts[6];
  const bool is_explained = beginnings(lists.traits)[named] != parts[7];
  return is_written_anew && !is_explained ? TableVerdict::kChanged : TableVerdict::kGrown;
}

}  // namespace evictd
