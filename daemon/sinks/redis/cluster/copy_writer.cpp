#include "daemon/sinks/redis/cluster/copy_writer.h"

#include <algorithm>
#include <utility>

#include "daemon/sinks/redis/errors.h"
#include "daemon/sinks/redis/resp.h"
#include "daemon/sinks/redis/scripts.h"

namespace evictd {
namespace {

constexpr std::chrono::seconds kRetry{1};

}  // namespace

void CopyWriter::save(const Record& record, std::chrono::milliseconds written, Means means) {
  under_way_.clear();  // nobody waits for copies of a former record any more
  refused_.clear();
  save_ = Save{{record.writer, record.sequence}, 0};
  const std::vector<HostPort> masters = routes_.slots().masters();
  // One that serves nothing for a while may come back with what another one had meanwhile.
  std::erase_if(last_stored_, [&](const auto& one) { return std::find(masters.begin(), masters.end(), one.first) == masters.end(); });
  for (const HostPort& master : masters) {
    const Slot slot = last_slots_[master] = slot_of(master);
    ++save_->missing;
    std::optional<std::uint64_t> former;
    const auto last = last_stored_.find(master);
    if ((means.is_ours_alone || means.is_shared) && last != last_stored_.end() && last->second.slot == slot) {
      former = means.is_shared ? std::min<std::uint64_t>(last->second.sequence, 1) : last->second.sequence;
    }
    std::string text = copy_to_text(written, routes_.slots().slots_of(master), record);
    send({master, slot, former, copy_key(record_key_, slot), std::move(text)}, means.may_use_scripts ? Way::kScript : Way::kSet);
  }
}

void CopyWriter::found(const HostPort& master, Slot slot, std::uint64_t sequence) {
  // The next one takes its place, so that the two can be compared.
  const auto known = last_slots_.find(master);
  if (known == last_slots_.end() || !routes_.slots().slots_of(master).test(known->second)) last_slots_[master] = slot;
  if (slot_of(master) != slot) return;
  Stored& last = last_stored_[master];
  // One that was stored meanwhile counts for more.
  if (last.slot != slot || last.sequence < sequence) last = {slot, sequence};
}

std::vector<Slot> CopyWriter::slots() const {
  std::vector<Slot> found;
  for (const HostPort& master : routes_.slots().masters()) found.push_back(slot_of(master));
  return found;
}

Slot CopyWriter::slot_of(const HostPort& master) const {
  const auto last = last_slots_.find(master);
  return copy_slot(routes_.slots().slots_of(master), last == last_slots_.end() ? std::nullopt : std::optional(last->second));
}

void CopyWriter::send(Copy copy, Way way) {
  copy.way = way;
  std::string bytes;
  std::optional<Script> which;
  const ScriptText& save_record = script(Script::kSaveRecord);
  std::vector<std::string> words;
  switch (way) {
    case Way::kScript:
      words = {"EVALSHA", save_record.sha1, "1", copy.key, copy.text};
      which = Script::kSaveRecord;
      break;
    case Way::kSet:
      words = {"SET", copy.key, copy.text};
      break;
    case Way::kScriptIfFull:
      words = {"EVAL", save_record.text, "1", copy.key, copy.text};
      break;
  }
  if (copy.former) words.push_back(way == Way::kSet ? "XX" : std::to_string(*copy.former));
  append_command_head(bytes, words.size());
  for (const std::string& word : words) append_argument(bytes, word);
  const std::uint64_t tag = ++next_tag_;
  const Slot slot = copy.slot;
  under_way_.emplace(tag, std::move(copy));
  routes_.send(Call{kSaveCalls, tag, slot, std::move(bytes), which, {}});
}

void CopyWriter::retry(SteadyTime now) {
  if (refused_.empty() || now < retry_due_) return;
  for (Copy& copy : std::exchange(refused_, {})) send(std::move(copy), Way::kSet);
}

bool CopyWriter::on_reply(const Call& call, const Reply& reply) {
  const auto copy = under_way_.find(call.tag);
  if (copy == under_way_.end()) return true;
  const bool is_set = copy->second.way == Way::kSet;
  if (copy->second.former && (is_set ? reply.kind == Reply::Kind::kNil : reply.kind == Reply::Kind::kInteger && reply.integer == -1)) {
    lost_ = copy->second.master;
    return true;
  }
  const bool is_stored = is_set
                             ? reply.is_ok()
                             : reply.kind == Reply::Kind::kInteger && reply.integer == static_cast<std::int64_t>(copy->second.text.size());
  if (!is_stored) return false;
  if (save_) last_stored_[copy->second.master] = {copy->second.slot, save_->record.sequence};
  under_way_.erase(copy);
  if (!save_ || --save_->missing > 0) return true;
  full_.clear();
  stored_ = save_->record;
  save_.reset();
  return true;
}

bool CopyWriter::on_error(const Call& call, std::string_view text, std::string& about, SteadyTime now) {
  about = "it was about evictd's record";
  const auto copy = under_way_.find(call.tag);
  if (copy == under_way_.end()) return true;
  const Way way = copy->second.way;
  if (way == Way::kScript || (way == Way::kSet && classify_redis_error(text).name != "oom")) return false;
  Copy again = std::move(copy->second);
  under_way_.erase(copy);
  if (way == Way::kSet) {
    send(std::move(again), Way::kScriptIfFull);
    return true;
  }
  // Scripts may be forbidden: there has to be room first.
  full_ = call.served_by.to_string();
  if (refused_.empty()) retry_due_ = now + kRetry;
  refused_.push_back(std::move(again));
  return true;
}

void CopyWriter::forget() {
  save_.reset();
  under_way_.clear();
  refused_.clear();
  full_.clear();
  stored_.reset();
  last_stored_.clear();
  lost_.reset();
}

}  // namespace evictd
