#include "runtime/text/unicode.h"

#include <algorithm>
#include <vector>

#include <utf8proc.h>

#include "kernels/base/check.h"
#include "runtime/text/utf8.h"

namespace trireme {
namespace {

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c & 0x80) == 0; });
}

int combining_class(int32_t value) { return utf8proc_get_property(value)->combining_class; }

// Sorts each run of characters with a combining class above 0 by that class (Unicode 3.11, D109).
void order_canonically(std::vector<int32_t>& points) {
  const auto is_starter = [](int32_t p) { return combining_class(p) == 0; };
  for (auto i = points.begin(); i != points.end();) {
    const auto begin = std::find_if_not(i, points.end(), is_starter);
    const auto end = std::find_if(begin, points.end(), is_starter);
    if (end - begin > 1) {
      std::stable_sort(
          begin, end, [](int32_t a, int32_t b) { return combining_class(a) < combining_class(b); });
    }
    i = end;
  }
}

}  // namespace

std::string normalize(std::string_view text, NormalForm form) {
  if (is_ascii(text)) return std::string(text);
  const bool compatible = form == NormalForm::kNfkc || form == NormalForm::kNfkd;
  const auto decompose = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE |
                                                        (compatible ? UTF8PROC_COMPAT : 0));
  std::vector<int32_t> points;
  points.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const CodePoint point = code_point_at(text, i);
    i += point.bytes;
    if (point.value < 0x80) {
      points.push_back(static_cast<int32_t>(point.value));
      continue;
    }
    int32_t parts[32];  // the longest decomposition, of U+FDFA, has 18
    int boundary = 0;
    const auto count =
        utf8proc_decompose_char(static_cast<int32_t>(point.value), parts, 32, decompose, &boundary);
    CHECK(count >= 0 && count <= 32) << count;
    points.insert(points.end(), parts, parts + count);
  }
  order_canonically(points);
  if (form == NormalForm::kNfc || form == NormalForm::kNfkc) {
    const auto compose = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    const auto count = utf8proc_normalize_utf32(
        points.data(), static_cast<utf8proc_ssize_t>(points.size()), compose);
    CHECK(count >= 0 && static_cast<size_t>(count) <= points.size()) << count;
    points.resize(static_cast<size_t>(count));
  }
  std::string out;
  out.reserve(text.size());
  for (const int32_t point : points) append_utf8(static_cast<char32_t>(point), out);
  return out;
}

std::string lower_case(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const CodePoint point = code_point_at(text, i);
    i += point.bytes;
    if (point.value == 0x130) {  // the one character whose lower case has two
      out.append("i\u0307");
    } else {
      append_utf8(static_cast<char32_t>(utf8proc_tolower(static_cast<int32_t>(point.value))), out);
    }
  }
  return out;
}

bool is_mark(char32_t value) {
  const auto category = utf8proc_category(static_cast<int32_t>(value));
  return category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_MC ||
         category == UTF8PROC_CATEGORY_ME;
}

}  // namespace trireme
