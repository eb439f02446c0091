#include "daemon/sources/postgres/drop.h"

#include <fmt/format.h>

#include "daemon/sources/postgres/catalogue.h"
#include "daemon/sources/postgres/conninfo.h"
#include "daemon/sources/postgres/sql_text.h"

namespace evictd {

Result<std::vector<std::string>> drop_postgres(const PostgresOptions& options) {
  auto conninfo = Conninfo::parse(options.url);
  if (!conninfo) return tl::unexpected<Error>(std::move(conninfo.error()));
  conninfo->use(options.credential);
  conninfo->pin_session("evictd drop", options.client_encoding);
  Catalogue catalogue(*conninfo);
  std::vector<std::string> lines;

  const auto facts = catalogue.read_facts(Subject{options.slot, options.publication, {}, false});
  if (!facts) {
    return fail(facts.error().kind,
                fmt::format("PostgreSQL at {}: {}", conninfo->server(), facts.error().text));
  }
  const SlotFacts& slot = facts->slot;
  if (!slot.exists) {
    lines.push_back(fmt::format("slot '{}' does not exist", options.slot));
  } else if (slot.plugin != "pgoutput" || slot.database != facts->server.database) {
    return fail(ErrorKind::kUsage,
                fmt::format("slot '{}' is not evictd's: plugin '{}', database '{}'", options.slot,
                            slot.plugin, slot.database),
                "set postgres.slot to the slot that evictd used");
  } else if (slot.is_active) {
    return fail(ErrorKind::kUsage,
                fmt::format("slot '{}' is in use by {}", options.slot, slot.holder),
                "stop that process first");
  } else {
    if (auto done = catalogue.drop_slot(options.slot); !done) {
      return fail(done.error().kind,
                  fmt::format("cannot drop slot '{}': {}", options.slot, done.error().text));
    }
    lines.push_back(fmt::format("dropped slot '{}'", options.slot));
  }

  if (!facts->publication.exists) {
    lines.push_back(fmt::format("publication '{}' does not exist", options.publication));
    return lines;
  }
  // Without a slot that reads it a publication costs nothing: left behind, it is no half of a work.
  const std::string statement = fmt::format("DROP PUBLICATION {};", shown_name(options.publication));
  if (!facts->publication.is_ours) {
    lines.push_back(fmt::format("left publication '{}', which is another role's; as its owner: {}", options.publication, statement));
    return lines;
  }
  // Which publications a slot is read with is known to its reader alone.
  const auto others = catalogue.query(
      "select slot_name from pg_replication_slots where plugin = 'pgoutput' and not temporary and database ="
      " current_database() order by 1");
  if (others && !others->empty()) {
    lines.push_back(fmt::format("left publication '{}', which slot '{}' may be read with; if it is not: {}",
                                options.publication, others->front()[0], statement));
    return lines;
  }
  if (auto done = catalogue.drop_publication(options.publication); !done) {
    lines.push_back(fmt::format("left publication '{}': {}; {}", options.publication, done.error().text, statement));
    return lines;
  }
  lines.push_back(fmt::format("dropped publication '{}'", options.publication));
  return lines;
}

}  // namespace evictd
