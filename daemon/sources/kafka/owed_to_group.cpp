#include "daemon/sources/kafka/owed_to_group.h"

#include <algorithm>
#include <utility>

namespace evictd {
namespace {

bool is_among(const std::vector<TopicPartition>& partitions, const TopicPartition& at) {
  return std::find(partitions.begin(), partitions.end(), at) != partitions.end();
}

}  // namespace

void OwedToGroup::gives(std::vector<TopicPartition> partitions) {
  if (!to_take_) to_take_.emplace();
  for (TopicPartition& at : partitions) {
    if (!is_among(*to_take_, at)) to_take_->push_back(std::move(at));
  }
}

std::optional<std::vector<TopicPartition>> OwedToGroup::looks_up() {
  look_up_at_ = SteadyTime::max();
  if (!to_take_ || std::exchange(is_looking_up_, true)) return std::nullopt;
  return to_take_;
}

bool OwedToGroup::looked_up(const std::vector<TopicPartition>& partitions) {
  is_looking_up_ = false;
  return to_take_ == partitions;
}

bool OwedToGroup::takes(const std::vector<TopicPartition>& partitions) {
  if (!to_take_) return false;
  std::erase_if(*to_take_, [&](const TopicPartition& at) { return is_among(partitions, at); });
  if (!to_take_->empty()) return false;
  to_take_.reset();
  return true;
}

void OwedToGroup::wants_back(std::vector<TopicPartition> partitions, SteadyTime by) {
  to_give_back_ = std::move(partitions);
  give_back_by_ = by;
}

bool OwedToGroup::gives_back(bool is_busy, SteadyTime now) const {
  return give_back_by_ != SteadyTime::max() && (!is_busy || now >= give_back_by_);
}

void OwedToGroup::gave_back() {
  to_give_back_.clear();
  give_back_by_ = SteadyTime::max();
}

bool OwedToGroup::leaves() {
  is_looking_up_ = false;
  look_up_at_ = SteadyTime::max();
  return std::exchange(to_take_, std::nullopt).has_value();
}

}  // namespace evictd
