#include "daemon/sources/postgres/drop.h"

#include <fmt/format.h>

#include "daemon/sources/postgres/catalogue.h"
#include "daemon/sources/postgres/conninfo.h"
#include "daemon/sources/postgres/sql_text.h"

namespace evictd {

Result<std::vector<std::string>> drop_postgres(const PostgresOptions& options) {
  auto conninfo = Conninfo::parse(options.url);
  if (!conninfo) return tl::unexpected<Error>(std::move(conninfo.error()));
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
  if (auto done = catalogue.drop_publication(options.publication); !done) {
    return fail(
        done.error().kind,
        fmt::format("cannot drop publication '{}': {}", options.publication, done.error().text),
        fmt::format("as its owner: DROP PUBLICATION {};", shown_name(options.publication)));
  }
  lines.push_back(fmt::format("dropped publication '{}'", options.publication));
  return lines;
}

}  // namespace evictd
