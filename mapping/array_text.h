// PostgreSQL's text of an array: {a,b}, {"x y",NULL}, {{1,2},{3,4}}, [0:1]={a,b}.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace evictd {

// Whether a text begins as that of an array does. (JSON's arrays begin otherwise, its objects alike.)
bool looks_like_array_text(std::string_view text);

// Calls `element` for each element, those of inner arrays one by one, as unnest() gives them; nothing stands for NULL.
// The view is valid only during the call. False when the text is not that of an array; some may have been passed on then.
bool for_each_element(std::string_view text, const std::function<void(std::optional<std::string_view>)>& element);

}  // namespace evictd
