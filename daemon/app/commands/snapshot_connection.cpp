#include "daemon/app/commands/snapshot_connection.h"

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

}  // namespace

Result<std::unique_ptr<SnapshotPoll>> make_snapshot_poll(const Secret& url, const CredentialSource& credential) {
  Result<Conninfo> conninfo = Conninfo::parse(url.reveal());
  if (!conninfo) return tl::unexpected(conninfo.error());
  conninfo->use(credential);
  conninfo->pin_session("evictd snapshots", "");
  return std::make_unique<SnapshotConnection>(std::move(*conninfo));
}

}  // namespace evictd
