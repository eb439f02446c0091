"""Builds broken on purpose: evictd with one guarantee taken out, to show that a test can fail.

Each is one change to one file, made at build time in a copy: the daemon's own text knows nothing of it. A text that is no
longer there exactly once stops the build, so that none of them rots into a build that is not broken.

    broken.py NAME SOURCE COPY    the file SOURCE with the change NAME, written to COPY
    broken.py --file NAME         which file it changes
"""

import pathlib
import sys

# name: (file, what stands there, what stands there instead)
BROKEN = {
    # G1: acknowledges before the cache has answered.
    "acknowledge_before_redis": (
        "daemon/flow/lane.cpp",
        "  work.batch = std::move(batch);\n  if (work.unfinished == 0) {",
        "  work.batch = std::move(batch);\n"
        "  keeper_.prefix().over({work.number, &work.ends, true, true}, keeper_.streams());\n"
        "  if (work.unfinished == 0) {"),
    # G1: a cut slice of a transaction counts as one that another history finished.
    "slices_are_known": (
        "daemon/flow/prefix.cpp",
        "  if (batch.is_cut && !(batch.cut_at && knows(source_.stream_name(batch.cut_at->stream), batch.cut_at->value + 1))) return false;\n",
        ""),
    # G1: what a cache lost with its last seconds still counts as applied, because it was.
    "applied_not_forgotten": (
        "daemon/flow/ledger.cpp",
        "    record_.acknowledged = finished_ = is_of_this_history ? on_record_.finished : begun_with_;\n"
        "    applied_ = is_of_this_history ? on_record_.applied : std::map<std::string, std::uint64_t>();\n",
        "    static_cast<void>(is_of_this_history);\n"),
    # G5: what was known of positions before the database restarted is believed afterwards.
    "positions_outlive_a_restart": (
        "daemon/flow/ledger.cpp",
        "  return record_.epoch == connected.epoch && record_.source_instance == connected.instance;\n",
        "  return record_.epoch == connected.epoch;\n"),
    # G4: a replay of what is applied passes for finished, and its settle is never made.
    "replays_owe_nothing": (
        "daemon/flow/lane.cpp",
        "const bool is_known = keeper_.prefix().is_finished(*batch);",
        "const bool is_known = keeper_.prefix().is_finished(*batch) || keeper_.prefix().is_applied(*batch);"),
    # G2: nothing is known to be applied: each redelivery deletes anew.
    "replays_delete_again": (
        "daemon/flow/lane.cpp",
        "const bool is_replay = !is_known && keeper_.prefix().is_applied(*batch);",
        "const bool is_replay = false;"),
    # G1: rows that lie before one already seen in the log are skipped; the classic fault of consumers that compare positions.
    "row_lsn_deduplication": (
        "daemon/sources/postgres/pgoutput.cpp",
        "      return decode_row(type, cursor, receiver);",
        "      {\n        static Lsn highest;\n        if (start <= highest) return {};\n        highest = start;\n      }\n"
        "      return decode_row(type, cursor, receiver);"),
    # G3: the tombstones of a commit that hangs are not renewed.
    "no_renewal": (
        "daemon/flow/lane.cpp",
        "    wait_for_timer(work, number, now_.steady + spec_.tombstone_ttl / 2);\n",
        "    wait_for_timer(work, number, now_.steady + std::chrono::hours(1));\n"),
    # G1: what a lookup found is not awaited.
    "found_is_not_awaited": (
        "daemon/flow/lane.cpp",
        "  ++waiting->second->holds;\n  ++waiting->second->unfinished;\n",
        ""),
    # G4: never deletes a second time.
    "no_settle": (
        "daemon/flow/lane.cpp",
        "part.is_settle = part.settles() && work.visible_at && now_.steady - *work.visible_at >= part.settle;",
        "part.is_settle = part.settles();"),
    # G4: the settle is counted from a moment before the transaction was known to be there.
    "known_too_early": (
        "daemon/flow/visibility.cpp",
        "    return since;\n",
        "    return since - std::chrono::milliseconds(300);\n"),
    # G10: looks joined rows up when the change arrives, before other sessions see it.
    "lookup_before_visible": (
        "daemon/flow/lookups.cpp",
        "  waiting = {batch, visible_at, 0};\n  if (visible_at) enqueue(waiting, now);",
        "  waiting = {batch, visible_at.value_or(now.steady), 0};\n  enqueue(waiting, now);"),
    # G10: of a joined table's changes the former values are forgotten.
    "former_parents_forgotten": (
        "daemon/flow/intake.cpp",
        "  mapper_->map(change, *this);\n",
        "  Change now_only = change;\n"
        "  const bool is_named = std::any_of(rules_->rules().begin(), rules_->rules().end(), [&](const RuleInfo& rule) {\n"
        "    return rule.implied_via.empty() && change.relation->is_of(rule.schema, rule.table);\n  });\n"
        "  if (!is_named && change.operation == Operation::kUpdate) {\n"
        "    now_only.operation = Operation::kInsert;\n    now_only.old_row = {};\n  }\n"
        "  mapper_->map(now_only, *this);\n"),
    # G6: a gap is told, and nothing is purged.
    "no_repair": (
        "daemon/flow/repair.cpp",
        "      if (repair.patterns.empty()) {\n",
        "      repair.patterns.clear();\n      if (repair.patterns.empty()) {\n"),
    # G8: reads on, whatever is held.
    "no_held_limit": (
        "daemon/flow/flow.cpp",
        "  if (!is_streaming() || stopping_) return false;\n  bool any_takes = false;",
        "  if (!is_streaming() || stopping_) return false;\n  return true;\n  bool any_takes = false;"),
    # G3: a refresh claims to have seen everything, as one whose snapshot was not taken with the value.
    "refresh_claims_everything": (
        "daemon/refresh/database.cpp",
        "pg_current_snapshot()::text{}",
        "'9000000000:9000000000:'::text{}"),
    # G3: an invalidation deletes, and what it leaves is gone before a slow fill would have to have seen it.
    "no_tombstone": (
        "daemon/sinks/redis/lua/invalidate.lua",
        "    lifetime = args[2],\n",
        "    lifetime = '1',\n"),
    # G3: a fill is stored whatever its snapshot has seen.
    "fill_without_token": (
        "daemon/sinks/redis/lua/reader.lua",
        "    local reason = marker_forbids(found[1], version, version_text)\n",
        "    local reason = nil\n"),
    # G6: no tombstone stands for the keys that a purge did not find.
    "purge_without_tombstone": (
        "daemon/sinks/redis/lua/reader.lua",
        "      if is_tombstone(found[i]) then reason = reason or tombstone_forbids(parse_marker(found[i]), version) end\n",
        ""),
    # G3: readers never hold a value against its lazy tags.
    "lazy_tags_always_seen": (
        "daemon/sinks/redis/lua/reader.lua",
        "  for i = 3, #keys do stale = stale or tag_is_newer(marker, keys[i], found[i]) end\n",
        ""),
    # G4: a lease that was lost, or is over, still lets its holder fill.
    "lease_never_over": (
        "daemon/sinks/redis/lua/reader.lua",
        "    if not old or old.lease ~= lease or old.lease_until < tonumber(now) then return rejected('rejected_lease') end\n",
        "    old = old or {kind = 'l'}\n"),
    # G6: what is behind the first page of a cursor is left.
    "walk_ends_with_its_first_page": (
        "daemon/sinks/redis/patterns.cpp",
        "    if (cursor_ == \"0\") scanned_ = Scanned::kAll;\n",
        "    scanned_ = Scanned::kAll;\n"),
    # A cache behind others is purged before they are.
    "no_order_of_caches": (
        "daemon/flow/flow.cpp",
        "    entry.lane->release_through(through, now_);",
        "    through = UINT64_MAX;\n    entry.lane->release_through(through, now_);"),
}


def main():
    if sys.argv[1] == "--file":
        print(BROKEN[sys.argv[2]][0], end="")
        return
    name, source, copy = sys.argv[1:]
    file, before, after = BROKEN[name]
    text = pathlib.Path(source).read_text()
    if text.count(before) != 1:
        sys.exit(f"broken.py: '{name}': expected this text once in {file}, found it {text.count(before)} times:\n{before}\n"
                 "hint: the code has changed: change the entry in tests/broken/broken.py with it")
    pathlib.Path(copy).write_text(text.replace(before, after))


if __name__ == "__main__":
    main()
