#include "runtime/text/json_field.h"

namespace trireme {

Result<Pattern> parse_pattern(const JsonField& field) {
  for (const std::string_view kind : {"String", "Regex"}) {
    const JsonField content = field[kind];
    if (!content.has_value()) continue;
    Result<std::string> text = content.string();
    if (!text.ok()) return text.status();
    Result<Pattern> pattern = kind == "Regex" ? Pattern::regex(*text) : Pattern::literal(*text);
    if (!pattern.ok()) return pattern.status().at(content.path());
    return pattern;
  }
  return field.wrong_kind("{\"String\": ...} or {\"Regex\": ...}");
}

}  // namespace trireme
