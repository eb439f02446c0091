// Reads one entry of a rule's `semantic:`. For the inside of mapping/ only.
#pragma once

#include <vector>

#include "mapping/semantic.h"
#include "mapping/template.h"
#include "mapping/yaml.h"

namespace evictd {

class SemanticReader {
 public:
  // Both must outlive it. `info` is filled in by read().
  SemanticReader(const YamlNode& node, SemanticInfo& info);

  // The first error of the entry. Not complete unless ok().
  Result<void> read();
  bool ok() const { return is_ok_; }
  // The compiled values of `where`, in the order of SemanticInfo::attributes.
  std::vector<Template> take_where() { return std::move(where_); }

 private:
  void read_index();
  void read_where();
  void read_attribute(const YamlEntry& entry);
  void read_near();
  void read_keys();
  void refuse(const Place& place, std::string text, std::string hint = {});

  const YamlNode& node_;
  YamlMap map_;
  SemanticInfo& info_;
  std::vector<Template> where_;
  bool is_ok_ = false;
};

}  // namespace evictd
