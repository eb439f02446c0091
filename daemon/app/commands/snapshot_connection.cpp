#include "daemon/app/commands/snapshot_connection.h"

#include "daemon/sources/postgres/lookups.h"
#include "daemon/sources/postgres/snapshots.h"

namespace evictd {
namespace {

class SnapshotConnection final : public SnapshotPoll {
 public:
  explicit SnapshotConnection(Conninfo conninfo) : conninfo_(std::move(conninfo)) {}

  void start(Now now) override { snapshots_.start(conninfo_, now); }
  void step(Now now) override { snapshots_.step(now); }
  void wait_for(Waiting& waiting) override { snapshots_.wait_for(waiting); }
  void request() override { snapshots_.request(); }
  std::optional<Snapshot> take() override {
    std::optional<Snapshots::Answer> answer = snapshots_.take();
    if (!answer) return std::nullopt;
    return std::move(answer->snapshot);
  }
  std::string problem() const override { return snapshots_.problem(); }

 private:
  Conninfo conninfo_;
  Snapshots snapshots_;
};

class LookupConnection final : public LookupSession {
 public:
  explicit LookupConnection(const Conninfo& conninfo) { lookups_.start(conninfo); }

  void ask(LookupRequest request, Now now) override { lookups_.ask(std::move(request), std::nullopt, now); }
  void forget() override { lookups_.forget(); }
  void step(Now now) override { lookups_.step(now, false); }
  void wait_for(Waiting& waiting) const override { lookups_.wait_for(waiting); }
  std::optional<LookupAnswer> take() override { return lookups_.take(); }

 private:
  Lookups lookups_;
};

}  // namespace

Result<std::unique_ptr<LookupSession>> make_lookup_session(const DatabaseAddress& database) {
  Result<Conninfo> conninfo = Conninfo::of(database, "evictd lookups");
  if (!conninfo) return tl::unexpected(conninfo.error());
  return std::make_unique<LookupConnection>(*conninfo);
}

Result<std::unique_ptr<SnapshotPoll>> make_snapshot_poll(const DatabaseAddress& database) {
  Result<Conninfo> conninfo = Conninfo::of(database, "evictd snapshots");
  if (!conninfo) return tl::unexpected(conninfo.error());
  return std::make_unique<SnapshotConnection>(std::move(*conninfo));
}

}  // namespace evictd
