#include "daemon/sinks/redis/cluster/blocking_cache.h"

#include <algorithm>
#include <map>
#include <set>
#include <thread>

#include "daemon/sinks/redis/errors.h"
#include "daemon/sinks/redis/record_text.h"
#include "daemon/sinks/redis/topology/record_copies.h"

namespace evictd {
namespace {

// Before commands that were told to come again are sent again.
constexpr std::chrono::milliseconds kAgainAfter{20};
constexpr std::chrono::milliseconds kAgainMax{200};

tl::unexpected<Error> unreadable(const Reply& reply) {
  if (!reply.is_error()) return fail(ErrorKind::kConnection, "redis answered 'GET' of evictd's record with something else than a text");
  Error error = redis_error(reply.text);
  return tl::unexpected(std::move(error).within("GET"));
}

}  // namespace

struct BlockingCache::Impl {
  RedisOptions options;
  std::unique_ptr<BlockingClient> first;  // one server, or whoever told of the cluster first
  bool is_cluster = false;
  SlotMap map;
  std::vector<HostPort> masters;
  std::map<std::string, std::unique_ptr<BlockingClient>> clients;  // of a cluster, by address

  Result<BlockingClient*> client_of(const HostPort& at) {
    std::unique_ptr<BlockingClient>& client = clients[at.to_string()];
    if (!client) {
      auto opened = BlockingClient::open(options, at);
      if (!opened) return tl::unexpected(opened.error());
      client = std::move(*opened);
    }
    return client.get();
  }

  // By the word of whoever answers: the masters first, then what the url names.
  Result<void> look() {
    if (!is_cluster) return {};
    Error error{ErrorKind::kConnection, "no node of the cluster tells who serves what", {}};
    for (const HostPort& master : masters) {
      const Result<BlockingClient*> client = client_of(master);
      if (client && take_slots(**client)) return {};
      clients.erase(master.to_string());
      if (!client) error = client.error();
    }
    Result<std::unique_ptr<BlockingClient>> other = BlockingClient::open(options);
    if (!other) return tl::unexpected(other.error());
    first = std::move(*other);
    if (take_slots(*first)) return {};
    return tl::unexpected(error);
  }

  bool take_slots(BlockingClient& client) {
    const Result<Reply> slots = client.command({"CLUSTER", "SLOTS"});
    if (!slots) return false;
    auto read = SlotMap::read(*slots, HostPort{client.address().host, client.address().port});
    if (!read || read->masters().empty()) return false;
    map = std::move(*read);
    masters = map.masters();
    return true;
  }

  Result<std::vector<Reply>> pipeline(const std::vector<KeyedCommand>& commands) {
    std::vector<Reply> replies(commands.size());
    std::vector<std::size_t> waiting(commands.size());
    for (std::size_t i = 0; i < commands.size(); ++i) waiting[i] = i;
    std::map<std::size_t, HostPort> asked;  // by command: who has its key already
    const SteadyTime deadline = std::chrono::steady_clock::now() + options.command_timeout;
    std::chrono::milliseconds pause = kAgainAfter;
    while (true) {
      std::map<std::string, std::pair<HostPort, std::vector<std::size_t>>> by_node;
      std::vector<std::size_t> again;
      for (const std::size_t i : waiting) {
        const auto ask = asked.find(i);
        const HostPort* at = ask != asked.end() ? &ask->second : map.owner(slot_of(commands[i].key));
        if (at == nullptr) {
          replies[i] = Reply{Reply::Kind::kError, 0, "CLUSTERDOWN Hash slot not served", {}};
          again.push_back(i);
          continue;
        }
        auto& node = by_node[at->to_string()];
        node.first = *at;
        node.second.push_back(i);
      }
      for (const auto& [name, node] : by_node) {
        const Result<BlockingClient*> client = client_of(node.first);
        if (!client) return tl::unexpected(client.error());
        std::vector<std::vector<std::string>> sent;
        for (const std::size_t i : node.second) {
          if (asked.contains(i)) sent.push_back({"ASKING"});
          sent.push_back(commands[i].words);
        }
        Result<std::vector<Reply>> answers = (*client)->pipeline(sent);
        if (!answers) {
          clients.erase(name);
          return tl::unexpected(answers.error());
        }
        std::size_t next = 0;
        for (const std::size_t i : node.second) {
          if (asked.contains(i)) ++next;
          replies[i] = std::move((*answers)[next++]);
          asked.erase(i);
          if (!replies[i].is_error()) continue;
          auto redirect = read_redirect(replies[i].text);
          if (!redirect) continue;
          const std::optional<HostPort> to = map.located(redirect->to, node.first);
          if (redirect->kind == Redirect::Kind::kAsk && to) asked[i] = *to;
          again.push_back(i);
        }
      }
      if (again.empty()) return replies;
      if (std::chrono::steady_clock::now() + pause >= deadline) return replies;
      // ASK is followed at once; everything else is late news, or a slot between two masters.
      if (asked.size() < again.size()) {
        std::this_thread::sleep_for(pause);
        pause = std::min(pause * 2, kAgainMax);
        if (Result<void> looked = look(); !looked) return tl::unexpected(looked.error());
      }
      waiting = std::move(again);
    }
  }
};

BlockingCache::BlockingCache() : impl_(std::make_unique<Impl>()) {}
BlockingCache::~BlockingCache() = default;

Result<std::unique_ptr<BlockingCache>> BlockingCache::open(const RedisOptions& options) {
  Result<std::unique_ptr<BlockingClient>> client = BlockingClient::open(options);
  if (!client) return tl::unexpected(client.error());
  std::unique_ptr<BlockingCache> cache(new BlockingCache());
  Impl& impl = *cache->impl_;
  impl.options = options;
  impl.first = std::move(*client);
  const Result<Reply> slots = impl.first->command({"CLUSTER", "SLOTS"});
  if (!slots) return tl::unexpected(slots.error());
  // Any other server refuses that command, or the right to it.
  impl.is_cluster = !slots->is_error();
  if (!impl.is_cluster) {
    impl.masters = {HostPort{impl.first->address().host, impl.first->address().port}};
    return cache;
  }
  if (!impl.take_slots(*impl.first)) {
    return fail(ErrorKind::kConnection, "redis at '" + impl.first->address().to_string() + "' is a node of a cluster, and does not tell who serves what",
                "look at 'cluster slots' and 'cluster info' there");
  }
  return cache;
}

bool BlockingCache::is_cluster() const { return impl_->is_cluster; }
const RedisAddress& BlockingCache::address() const { return impl_->first->address(); }
const std::vector<HostPort>& BlockingCache::masters() const { return impl_->masters; }
const SlotMap& BlockingCache::slots() const { return impl_->map; }
Result<void> BlockingCache::look() { return impl_->look(); }

Result<std::vector<Reply>> BlockingCache::pipeline(const std::vector<KeyedCommand>& commands) {
  if (impl_->is_cluster) return impl_->pipeline(commands);
  std::vector<std::vector<std::string>> sent;
  sent.reserve(commands.size());
  for (const KeyedCommand& command : commands) sent.push_back(command.words);
  return impl_->first->pipeline(sent);
}

Result<Reply> BlockingCache::command(const std::string& key, std::vector<std::string> words) {
  Result<std::vector<Reply>> replies = pipeline({{key, std::move(words)}});
  if (!replies) return tl::unexpected(replies.error());
  return std::move(replies->front());
}

Result<std::optional<Record>> BlockingCache::record(const std::string& record_key) {
  if (!is_cluster()) {
    const Result<Reply> reply = command(record_key, {"GET", record_key});
    if (!reply) return tl::unexpected(reply.error());
    if (reply->kind == Reply::Kind::kNil) return std::optional<Record>();
    if (reply->kind != Reply::Kind::kText) return unreadable(*reply);
    Result<Record> record = record_from_text(reply->text);
    if (!record) return tl::unexpected(record.error());
    return std::optional<Record>(std::move(*record));
  }
  if (Result<void> looked = look(); !looked) return tl::unexpected(looked.error());
  std::set<Slot> slots;
  for (std::size_t slot = 0; slot < kSlots; slot += kCopySlotStep) slots.insert(static_cast<Slot>(slot));
  std::vector<ShardCopies> shards;
  for (const HostPort& master : masters()) {
    shards.push_back({impl_->map.slots_of(master), {}});
    slots.insert(copy_slot(shards.back().slots, std::nullopt));
  }
  std::vector<KeyedCommand> commands;
  for (const Slot slot : slots) {
    const std::string key = copy_key(record_key, slot);
    commands.push_back({key, {"GET", key}});
  }
  const Result<std::vector<Reply>> replies = pipeline(commands);
  if (!replies) return tl::unexpected(replies.error());
  std::size_t next = 0;
  for (const Slot slot : slots) {
    const Reply& reply = (*replies)[next++];
    if (reply.is_error() && !reply.text.starts_with("WRONGTYPE")) return unreadable(reply);
    if (reply.kind != Reply::Kind::kText) continue;
    std::optional<RecordCopy> copy = copy_from_text(reply.text);
    const auto shard = std::find_if(shards.begin(), shards.end(), [&](const ShardCopies& one) { return one.slots.test(slot); });
    if (copy && shard != shards.end()) shard->copies.push_back(std::move(*copy));
  }
  JudgedCopies judged = judge_copies(shards, std::nullopt);
  if (judged.record && judged.lost.any()) judged.record->gaps.insert(kRollbackGap);
  return std::move(judged.record);
}

Result<std::vector<Reply>> BlockingCache::pipeline_to(std::size_t master, const std::vector<std::vector<std::string>>& commands) {
  if (!impl_->is_cluster) return impl_->first->pipeline(commands);
  const HostPort at = impl_->masters[master];
  const Result<BlockingClient*> client = impl_->client_of(at);
  if (!client) return tl::unexpected(client.error());
  Result<std::vector<Reply>> replies = (*client)->pipeline(commands);
  if (!replies) impl_->clients.erase(at.to_string());
  return replies;
}

}  // namespace evictd
