#include "daemon/sinks/redis/topology/slot_map.h"

#include <algorithm>

#include "daemon/base/text.h"

namespace evictd {
namespace {

constexpr std::string_view kNameless = "?";
constexpr std::size_t kReplicasMax = 1000;  // nodes of a cluster, by Redis's own words

bool read_slot(std::string_view text, Slot& slot) { return read_number(text, slot) && slot < kSlots; }

// "field:value" lines.
std::string_view field(std::string_view text, std::string_view name) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.size() > name.size() && line.starts_with(name) && line[name.size()] == ':') return line.substr(name.size() + 1);
  }
  return {};
}

// Of a node whose address nobody knows any more, as after CLUSTER RESET there.
bool is_no_address(std::string_view host, std::int64_t port) { return port == 0 && (host.empty() || host == kNameless); }

// The same in CLUSTER SLOTS.
bool is_without_address(const Reply& node) {
  return node.kind == Reply::Kind::kArray && node.elements.size() > 1 && node.elements[1].kind == Reply::Kind::kInteger &&
         is_no_address(node.elements[0].text, node.elements[1].integer);
}

// A node in CLUSTER SLOTS has a port in its second place.
std::optional<std::uint16_t> port_of(const Reply& node) {
  if (node.kind != Reply::Kind::kArray || node.elements.size() < 2) return std::nullopt;
  const Reply& port = node.elements[1];
  if (port.kind != Reply::Kind::kInteger || port.integer < 1 || port.integer > 65535) return std::nullopt;
  return static_cast<std::uint16_t>(port.integer);
}

// Of a node in CLUSTER SLOTS. One that is to be known by a hostname and has none ("?") tells its address beside.
std::string host_of(const Reply& node, const HostPort& asked) {
  std::string host = node.elements[0].text;
  if (host == kNameless && node.elements.size() > 3) {
    const std::vector<Reply>& more = node.elements[3].elements;
    for (std::size_t i = 0; i + 1 < more.size(); i += 2) {
      if (more[i].text == "ip") host = more[i + 1].text;
    }
  }
  return host.empty() || host == kNameless ? asked.host : host;
}

}  // namespace

std::string ranges_text(const SlotSet& slots) {
  std::string text;
  for (std::size_t first = 0; first < kSlots; ++first) {
    if (!slots.test(first)) continue;
    std::size_t last = first;
    while (last + 1 < kSlots && slots.test(last + 1)) ++last;
    if (!text.empty()) text += ',';
    text += std::to_string(first);
    if (last > first) text += "-" + std::to_string(last);
    first = last;
  }
  return text;
}

std::optional<SlotSet> slots_from_ranges(std::string_view text) {
  SlotSet slots;
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    const std::string_view range = text.substr(0, comma);
    text.remove_prefix(std::min(comma + 1, text.size()));
    const std::size_t dash = range.find('-');
    Slot first = 0, last = 0;
    if (!read_slot(range.substr(0, dash), first)) return std::nullopt;
    last = first;
    if (dash != std::string_view::npos && !read_slot(range.substr(dash + 1), last)) return std::nullopt;
    for (std::size_t slot = first; slot <= last; ++slot) slots.set(slot);
  }
  return slots;
}

std::optional<SlotMap> SlotMap::read(const Reply& slots, const HostPort& asked) {
  if (slots.kind != Reply::Kind::kArray) return std::nullopt;
  SlotMap map;
  for (const Reply& range : slots.elements) {
    if (range.kind != Reply::Kind::kArray || range.elements.size() < 3) return std::nullopt;
    const Reply& first = range.elements[0];
    const Reply& last = range.elements[1];
    const Reply& node = range.elements[2];
    const auto is_slot = [](const Reply& number) {
      return number.kind == Reply::Kind::kInteger && number.integer >= 0 && number.integer < static_cast<std::int64_t>(kSlots);
    };
    if (!is_slot(first) || !is_slot(last)) return std::nullopt;
    if (is_without_address(node)) continue;  // nobody can serve these slots
    const auto port = port_of(node);
    if (!port) return std::nullopt;
    const std::uint16_t index = map.index_of({host_of(node, asked), *port});
    for (std::int64_t slot = first.integer; slot <= last.integer; ++slot) map.owner_[static_cast<std::size_t>(slot)] = index;
    for (std::size_t i = 3; i < range.elements.size(); ++i) map.add_replica(range.elements[i], asked);
  }
  return map;
}

// One of another shape tells nothing, and changes nothing of who serves what.
void SlotMap::add_replica(const Reply& node, const HostPort& asked) {
  const auto port = port_of(node);
  if (!port || replicas_.size() == kReplicasMax) return;
  const HostPort replica{host_of(node, asked), *port};
  if (std::find(replicas_.begin(), replicas_.end(), replica) == replicas_.end()) replicas_.push_back(replica);
}

std::uint16_t SlotMap::index_of(const HostPort& master) {
  const auto known = std::find(masters_.begin(), masters_.end(), master);
  if (known != masters_.end()) return static_cast<std::uint16_t>(known - masters_.begin());
  masters_.push_back(master);
  return static_cast<std::uint16_t>(masters_.size() - 1);
}

std::vector<HostPort> SlotMap::masters() const {
  std::vector<bool> has_slots(masters_.size(), false);
  for (const std::uint16_t index : owner_) {
    if (index != kNobody) has_slots[index] = true;
  }
  std::vector<HostPort> found;
  for (std::size_t i = 0; i < masters_.size(); ++i) {
    if (has_slots[i]) found.push_back(masters_[i]);
  }
  return found;
}

SlotSet SlotMap::slots_of(const HostPort& master) const {
  SlotSet slots;
  for (std::size_t slot = 0; slot < kSlots; ++slot) {
    if (owner_[slot] != kNobody && masters_[owner_[slot]] == master) slots.set(slot);
  }
  return slots;
}

SlotSet SlotMap::unserved() const {
  SlotSet slots;
  for (std::size_t slot = 0; slot < kSlots; ++slot) slots.set(slot, owner_[slot] == kNobody);
  return slots;
}

std::optional<HostPort> SlotMap::located(const HostPort& to, const HostPort& by) const {
  if (to.host.empty()) return HostPort{by.host, to.port};
  if (to.host != kNameless) return to;
  std::optional<HostPort> found;
  for (const HostPort& master : masters_) {
    if (master.port != to.port) continue;
    if (found) return std::nullopt;
    found = master;
  }
  return found;
}

void SlotMap::moved(Slot slot, const HostPort& to) { owner_[slot] = index_of(to); }

bool operator==(const SlotMap& a, const SlotMap& b) {
  for (std::size_t slot = 0; slot < kSlots; ++slot) {
    const HostPort* of_a = a.owner(static_cast<Slot>(slot));
    const HostPort* of_b = b.owner(static_cast<Slot>(slot));
    if ((of_a == nullptr) != (of_b == nullptr) || (of_a != nullptr && *of_a != *of_b)) return false;
  }
  return true;
}

std::optional<ClusterState> read_cluster_state(const Reply& info) {
  if (info.kind != Reply::Kind::kText) return std::nullopt;
  ClusterState state;
  state.is_ok = field(info.text, "cluster_state") == "ok";
  if (!read_number(field(info.text, "cluster_current_epoch"), state.epoch)) return std::nullopt;
  return state;
}

std::string_view own_slots(std::string_view nodes) {
  while (!nodes.empty()) {
    const std::size_t end = std::min(nodes.find('\n'), nodes.size());
    std::string_view line = nodes.substr(0, end);
    nodes.remove_prefix(std::min(end + 1, nodes.size()));
    if (line.find("myself") == std::string_view::npos) continue;
    // id, address, flags, master, ping sent, pong received: what follows is the epoch, the state of the link, the slots.
    for (int skipped = 0; skipped < 6; ++skipped) line.remove_prefix(std::min(line.find(' ') + 1, line.size()));
    return line;
  }
  return {};
}

std::optional<Redirect> read_redirect(std::string_view error) {
  Redirect redirect;
  if (error.starts_with("TRYAGAIN")) {
    redirect.kind = Redirect::Kind::kTryAgain;
    return redirect;
  }
  if (error.starts_with("CLUSTERDOWN")) return redirect;
  if (error.starts_with("MOVED ")) {
    redirect.kind = Redirect::Kind::kMoved;
    error.remove_prefix(6);
  } else if (error.starts_with("ASK ")) {
    redirect.kind = Redirect::Kind::kAsk;
    error.remove_prefix(4);
  } else {
    return std::nullopt;
  }
  const std::size_t space = error.find(' ');
  const std::size_t colon = error.rfind(':');
  if (space == std::string_view::npos || colon == std::string_view::npos || colon < space) return std::nullopt;
  if (!read_slot(error.substr(0, space), redirect.slot)) return std::nullopt;
  redirect.to.host = std::string(error.substr(space + 1, colon - space - 1));
  if (!read_number(error.substr(colon + 1), redirect.to.port)) return std::nullopt;
  if (is_no_address(redirect.to.host, redirect.to.port)) return Redirect{};
  if (redirect.to.port == 0) return std::nullopt;
  return redirect;
}

}  // namespace evictd
