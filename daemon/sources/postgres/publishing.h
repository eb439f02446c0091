// Which relations of a followed table can be served, and what the publication still needs for that. One that cannot be
// served is named, and the rest is served. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "daemon/sources/postgres/catalogue.h"

namespace evictd {

// A relation whose changes do not reach us, and why.
struct Unserved {
  enum class Why { kNoTable, kForeign, kUnlogged, kTemporary, kNoIdentity, kNotOurs, kNotOwned };
  Why why = Why::kNoTable;
  TableName relation;
  std::string text;  // "'public.cheque', which lies below 'public.pay', is unlogged: its changes are not decoded"
  std::string fix;   // a statement, where one helps
};

struct Publishing {
  // To be added to the publication by us, or to be what it is created for.
  std::vector<TableName> to_add;
  std::vector<Unserved> unserved;
};

// For the table that rules name as `table`. Never FOR ALL TABLES, and nothing without a replica identity: its UPDATE and
// DELETE would fail for the application (G7).
Publishing plan_publishing(const TableFacts& facts, const PublicationFacts& publication,
                           const std::string& publication_name, int server_version);

// Why UPDATE and DELETE on a published relation fail, and what to do: "has no replica identity". REQUIRES: !has_identity().
struct IdentityProblem {
  std::string text;
  std::string fix;
  bool is_none = false;  // there is no identity at all: a primary key would help
};
IdentityProblem identity_problem(const RelationFacts& relation, const std::string& publication);
// What makes the old values of all columns be sent, as far as that can be without making the application's UPDATE and DELETE fail.
std::string full_identity_fix(const RelationFacts& relation, const std::string& publication);

// For a person, as the statements below.
std::string shown_relation(const TableName& name);
// The whole statement, as it can be pasted. ONLY: what lies below a table is published by itself or not at all.
std::string add_relations_statement(const std::string& publication, const std::vector<TableName>& relations);
// Every operation: what is left out is never invalidated.
std::string publish_all_statement(const std::string& publication);
// Who can carry out what follows, in advice: to own the tables is not enough.
inline constexpr std::string_view kWhoMayCreate = "as a superuser, or as an owner of the tables who may CREATE in the database: ";
// Of PostgreSQL 18 and later, with generated columns: without them, REPLICA IDENTITY FULL makes UPDATE and DELETE fail on a table that has
// one (G7).
std::string create_publication_statement(const std::string& publication, const std::vector<TableName>& relations, int server_version);

}  // namespace evictd
