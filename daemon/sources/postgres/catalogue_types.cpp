#include "daemon/sources/postgres/catalogue_types.h"

#include <fmt/format.h>

#include "daemon/sources/postgres/value_types.h"

namespace evictd {

Oid CatalogueTypes::base_of(Oid type) const {
  for (auto found = types_.find(type); found != types_.end() && found->second.kind == 'd'; found = types_.find(type))
    type = found->second.base;
  const auto array = types_.find(type);
  if (array == types_.end() || array->second.kind != 'b' || array->second.base == 0) return type;
  const auto element = types_.find(base_of(array->second.base));
  const bool is_of_domain = element != types_.end() && element->first != array->second.base && element->second.array != 0;
  return is_of_domain ? element->second.array : type;
}

int CatalogueTypes::modifier_of(Oid type) const {
  for (auto found = types_.find(type); found != types_.end() && found->second.kind == 'd'; found = types_.find(found->second.base))
    if (found->second.modifier >= 0) return found->second.modifier;
  return -1;
}

Oid CatalogueTypes::element_of(Oid type) const {
  auto found = types_.find(type);
  while (found != types_.end() && found->second.kind == 'd') found = types_.find(found->second.base);
  return found == types_.end() || found->second.kind != 'b' || found->second.base == 0 ? 0 : base_of(found->second.base);
}

char CatalogueTypes::category_of(Oid type) const {
  const auto found = types_.find(type);
  return found == types_.end() ? '\0' : found->second.category;
}

std::string CatalogueTypes::name_of(Oid type, const std::string& otherwise) const {
  const auto found = types_.find(type);
  return found == types_.end() ? otherwise : found->second.name;
}

std::vector<std::string> CatalogueTypes::labels_of(Oid type) const {
  std::vector<std::string> labels;
  if (const auto found = types_.find(type); found != types_.end()) {
    for (const auto& [oid, label] : found->second.labels) labels.push_back(label.text);
  }
  return labels;
}

// Ends: a type cannot contain itself, nor a domain over itself.
std::string CatalogueTypes::text_of(Oid type, Labels& labels) const {
  const auto found = types_.find(type);
  std::string text = std::to_string(type);
  if (found == types_.end()) return text;
  labels.insert(found->second.labels.begin(), found->second.labels.end());
  if (found->second.base != 0) text += "(" + text_of(found->second.base, labels) + ")";
  for (const auto& [name, attribute] : found->second.attributes)
    text += fmt::format("[{} {}]", name, text_of(attribute, labels));
  return text;
}

CatalogueTypes read_types(CatalogueSession& session, const std::set<Oid>& types) {
  std::map<Oid, CatalogueTypes::Type> result;
  std::string wanted;
  for (const Oid type : types) {
    if (type >= kGenericTypesMin) wanted += fmt::format("{}{}", wanted.empty() ? "" : ",", type);
  }
  if (wanted.empty()) return CatalogueTypes({});
  const std::string multirange =
      session.version() < 140000 ? "" : " union all select r.rngtypid from pg_range r where t.typtype = 'm' and r.rngmultitypid = t.oid";
  const std::string made_of = fmt::format(
      "with recursive made_of(type) as (select oid from pg_type where oid in ({})"
      " union select below.type from made_of m join pg_type t on t.oid = m.type cross join lateral ("
      "  select t.typbasetype where t.typtype = 'd'"
      "  union all select t.typelem where t.typtype = 'b' and t.typlen = -1 and t.typelem <> 0"
      "  union all select r.rngsubtype from pg_range r where t.typtype = 'r' and r.rngtypid = t.oid{}"
      "  union all select a.atttypid from pg_attribute a where t.typtype = 'c' and a.attrelid = t.typrelid"
      "   and a.attnum > 0 and not a.attisdropped) below(type))",
      wanted, multirange);
  const std::string of_multirange =
      session.version() < 140000 ? "" : "  when t.typtype = 'm' then (select r.rngtypid from pg_range r where r.rngmultitypid = t.oid)";
  for (const auto& row : session.query(
           made_of + " select t.oid, t.typtype, case when t.typtype = 'd' then t.typbasetype"
                     "  when t.typtype = 'b' and t.typlen = -1 then t.typelem"
                     "  when t.typtype = 'r' then (select r.rngsubtype from pg_range r where r.rngtypid = t.oid)" +
           of_multirange + " else 0 end, t.typarray, t.typname, t.typtypmod, t.typcategory"
                     " from made_of m join pg_type t on t.oid = m.type")) {
    CatalogueTypes::Type& type = result[static_cast<Oid>(std::stoul(row[0]))];
    type.kind = row[1].at(0);
    type.base = static_cast<Oid>(std::stoul(row[2]));
    type.array = static_cast<Oid>(std::stoul(row[3]));
    type.name = row[4];
    type.modifier = std::stoi(row[5]);
    type.category = row[6].at(0);
  }
  for (const auto& row : session.query(
           made_of + " select t.oid, a.attnum || ':' || a.attname || ':' || a.xmin, a.atttypid from made_of m join pg_type t"
                     " on t.oid = m.type and t.typtype = 'c' join pg_attribute a on a.attrelid = t.typrelid"
                     " where a.attnum > 0 and not a.attisdropped order by t.oid, a.attnum")) {
    result[static_cast<Oid>(std::stoul(row[0]))].attributes.emplace_back(row[1],
                                                                         static_cast<Oid>(std::stoul(row[2])));
  }
  for (const auto& row : session.query(
           made_of + " select e.enumtypid, e.oid, e.enumlabel, e.xmin from made_of m join pg_enum e on e.enumtypid = m.type")) {
    result[static_cast<Oid>(std::stoul(row[0]))].labels[static_cast<Oid>(std::stoul(row[1]))] = {row[2], row[3]};
  }
  return CatalogueTypes(std::move(result));
}

}  // namespace evictd
