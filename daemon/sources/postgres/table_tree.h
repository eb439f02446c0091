// The table tree (interface/table_tree.h), read from the catalogue. Blocks; its session ends with the answer, so that a
// server that shuts down smartly need not wait for it.
#pragma once

#include "daemon/interface/table_tree.h"
#include "daemon/sources/postgres/conninfo.h"

namespace evictd {

// `publication`: of which row filters are told.
AskTableTree ask_table_tree(const Conninfo& conninfo, const std::string& publication);

}  // namespace evictd
