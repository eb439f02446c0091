// Facts of a healthy server, to be spoilt by tests.
#pragma once

#include <string>
#include <vector>

#include "daemon/sources/postgres/catalogue.h"

namespace evictd::testing {

inline ColumnFacts column(const std::string& name, bool in_identity = false,
                          bool can_be_toasted = false) {
  ColumnFacts facts;
  facts.name = name;
  facts.type = facts.base_type = 25;
  facts.in_identity = in_identity;
  facts.can_be_toasted = can_be_toasted;
  return facts;
}

// "public.<name>" with a primary key `id` and columns `slug` (short) and `body` (long).
inline TableFacts table(const std::string& name, Oid oid) {
  TableFacts facts;
  facts.table.oid = oid;
  facts.table.name = TableName{"public", name};
  facts.table.is_published = facts.is_published = true;
  facts.table.columns = {column("id", true), column("slug"), column("body", false, true)};
  return facts;
}

inline void unpublish(TableFacts& table) { table.is_published = table.table.is_published = false; }

inline Facts healthy_facts() {
  Facts facts;
  facts.server.version = 150020;
  facts.server.wal_level = "logical";
  facts.server.instance = "1/0";
  facts.server.wal_end = Lsn{1'000'000};
  facts.server.database = "shop";
  facts.server.database_oid = 16384;
  facts.server.role = "evictd";
  facts.server.role_may_replicate = true;
  facts.server.encoding = "UTF8";
  facts.server.wal_sender_timeout = std::chrono::seconds(60);
  facts.slot.exists = true;
  facts.slot.plugin = "pgoutput";
  facts.slot.database = "shop";
  facts.slot.confirmed = Lsn{1000};
  facts.publication = PublicationFacts{"evictd", true, true, false, false, true, true, true, true, "16390:700"};
  facts.tables["public.products"] = table("products", 100);
  facts.tables["public.orders"] = table("orders", 200);
  return facts;
}

}  // namespace evictd::testing
