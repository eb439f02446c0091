// Single settings of a rule, read from YAML. For the inside of mapping/ only.
#pragma once

#include <cstdint>
#include <string>

#include "mapping/error.h"
#include "mapping/rules_compiled.h"
#include "mapping/yaml.h"

namespace evictd {

// A table as table_name.h reads it.
Result<TableName> parse_table(const YamlNode& node);

// `on`: one bit per Operation.
Result<std::uint8_t> parse_operations(const YamlNode& node);

// One entry of `where`: a column, and a value or a list of values (null stands for NULL), or a map of comparisons.
Result<Condition> parse_condition(const YamlEntry& entry);

}  // namespace evictd
