// The plan: what the facts of the server and what we knew before say must happen before streaming:
// gaps to report (G6), things to create or drop. Pure.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "daemon/sources/postgres/catalogue.h"
#include "daemon/sources/postgres/postgres_source.h"
#include "daemon/interface/source.h"

namespace evictd {

struct Plan {
  bool drop_slot = false;
  bool create_slot = false;
  bool create_publication = false;
  // What is added, or what the new publication begins with, and the tables that it belongs to.
  std::vector<TableName> relations_to_publish;
  std::vector<std::string> tables_to_publish;
  std::vector<TableName> relations_unowned;  // wanted too, but not ours to publish
  // Why readiness must be refused, although streaming works.
  std::vector<std::string> problems;
  // What harms others and no key: told in the log, and by check, and no reason not to be ready.
  std::vector<std::string> warnings;

  // Something must be changed on the server.
  bool has_work() const {
    return drop_slot || create_slot || create_publication || !tables_to_publish.empty();
  }
};

struct PlanInput {
  const PostgresOptions* options = nullptr;
  const std::vector<std::string>* tables = nullptr;
  const Facts* facts = nullptr;
  // The server said that the publication did not exist yet where the slot stands (42704).
  bool slot_predates_publication = false;
};

// kUsage when the server can never serve us as it is.
Result<Plan> make_plan(const PlanInput& input);

// What can be missing, whatever is on record, and what has to be compared with it. `epoch`: of the connection.
SourceFacts source_facts(const PlanInput& input, const Plan& plan, const Epoch& epoch);
// Why a table may have missed something since `before`, see SourceFacts::difference.
std::string table_gap(const TableFacts& table, const PublicationFacts& publication, const std::string& before);

// "<database oid>/<slot>": what a position lives in.
std::string source_identity(const Facts& facts, const std::string& slot);

// The mapped tables whose changes reach us, with what the catalogue says of them (table_digest.h).
std::map<std::string, std::string> published_tables(const Facts& facts);

}  // namespace evictd
