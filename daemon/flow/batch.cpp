#include "daemon/flow/batch.h"

#include <algorithm>
#include <iterator>

namespace evictd {
namespace {

Texts texts_of(const Texts& all, const std::vector<Xid>& wanted) {
  Texts some;
  std::uint32_t begin = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::size_t before = some.xids.size();
    for (; begin < all.items[i].xids_end; ++begin) {
      if (std::binary_search(wanted.begin(), wanted.end(), all.xids[begin])) some.xids.push_back(all.xids[begin]);
    }
    if (some.xids.size() == before) continue;
    some.texts.append(all.text(i));
    some.items.push_back({static_cast<std::uint32_t>(some.texts.size()), static_cast<std::uint32_t>(some.xids.size())});
  }
  return some;
}

BatchLookup lookup_of(const BatchLookup& all, const std::vector<Xid>& wanted, std::size_t& bytes) {
  BatchLookup some{all.rule, all.lookup, {}};
  for (const BatchLookup::Item& item : all.items) {
    std::vector<Xid> xids;
    std::copy_if(item.xids.begin(), item.xids.end(), std::back_inserter(xids),
                 [&](Xid xid) { return std::binary_search(wanted.begin(), wanted.end(), xid); });
    if (xids.empty()) continue;
    bytes += sizeof(BatchLookup::Item) + xids.size() * sizeof(Xid);
    for (const std::string& value : item.values) bytes += sizeof(std::string) + value.size();
    some.items.push_back({item.values, std::move(xids)});
  }
  return some;
}

}  // namespace

bool has_what_waits(const Batch& batch) {
  return !batch.lookups.empty() ||
         std::any_of(batch.parts.begin(), batch.parts.end(), [](const BatchPart& part) { return part.kind == InvalidationKind::kBump; });
}

std::unique_ptr<Batch> what_waits(const Batch& batch, const std::vector<Xid>& visible) {
  auto ahead = std::make_unique<Batch>();
  ahead->session = batch.session;
  ahead->rules = batch.rules;
  ahead->oldest_commit = batch.oldest_commit;
  ahead->is_cut = true;
  ahead->bytes = sizeof(Batch) + visible.size() * sizeof(Xid);
  for (const BatchPart& part : batch.parts) {
    if (part.kind != InvalidationKind::kBump) continue;
    Texts texts = texts_of(part.texts, visible);
    if (texts.size() == 0) continue;
    ahead->bytes += sizeof(BatchPart) + texts.bytes();
    ahead->parts.push_back({part.rule, part.kind, std::move(texts)});
  }
  for (const BatchLookup& lookup : batch.lookups) {
    BatchLookup some = lookup_of(lookup, visible, ahead->bytes);
    if (!some.items.empty()) ahead->lookups.push_back(std::move(some));
  }
  if (ahead->parts.empty() && ahead->lookups.empty()) return nullptr;
  ahead->xids = visible;
  return ahead;
}

}  // namespace evictd
