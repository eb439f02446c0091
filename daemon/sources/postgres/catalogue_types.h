// What types are made of, to any depth: domains, arrays, composite types, enums.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "daemon/sources/postgres/catalogue_session.h"

namespace evictd {

class CatalogueTypes {
 public:
  using Labels = std::map<Oid, EnumLabel>;
  struct Type {
    char kind = 'b';  // pg_type.typtype
    Oid base = 0;     // of a domain; of an array or a range: its elements; of a multirange: its range
    Oid array = 0;    // the type of arrays of it
    int modifier = -1;  // pg_type.typtypmod, of a domain
    char category = '\0';  // pg_type.typcategory
    std::string name;
    std::vector<std::pair<std::string, Oid>> attributes;  // of a composite type, "number:name:writer"
    Labels labels;                                        // of an enum
  };

  explicit CatalogueTypes(std::map<Oid, Type> types) : types_(std::move(types)) {}

  // Whose text its values have: of a domain, the first type below it that is none; of an array of a domain, the array of
  // that type; of any other, itself.
  Oid base_of(Oid type) const;
  // Of a domain: the modifier of the type it is made from, "(10,2)"; -1: none, or no domain.
  int modifier_of(Oid type) const;
  // Of an array, or a domain over one, the type below that is none; 0: no array, or one of PostgreSQL's own that no other type is made of.
  Oid element_of(Oid type) const;
  char category_of(Oid type) const;
  // Its bare name; `otherwise`: of a type that is no domain's base.
  std::string name_of(Oid type, const std::string& otherwise) const;
  // Of an enum; empty for any other type.
  std::vector<std::string> labels_of(Oid type) const;
  // Equal for two looks only when values have the same text in both; enum labels apart, which are added to `labels`.
  std::string text_of(Oid type, Labels& labels) const;

 private:
  std::map<Oid, Type> types_;
};

CatalogueTypes read_types(CatalogueSession& session, const std::set<Oid>& types);

}  // namespace evictd
