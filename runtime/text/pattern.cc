#include "runtime/text/pattern.h"

namespace trireme {

Result<Pattern> Pattern::literal(std::string text) {
  if (text.empty()) return regex("");
  Pattern pattern;
  pattern.literal_ = std::move(text);
  return pattern;
}

Result<Pattern> Pattern::regex(std::string_view onig_pattern) {
  Result<Regex> compiled = Regex::compile(onig_pattern);
  if (!compiled.ok()) return compiled.status();
  Pattern pattern;
  pattern.regex_ = compiled.take();
  return pattern;
}

Status Pattern::find_all(std::string_view text, Regex::Scratch& scratch,
                         std::vector<Regex::Match>& matches) const {
  if (text.empty()) return {};  // HF looks for nothing there, not even for an empty match
  if (regex_) return regex_->find_all(text, scratch, matches);
  for (size_t i = text.find(literal_); i != std::string_view::npos;
       i = text.find(literal_, i + literal_.size())) {
    matches.push_back({i, i + literal_.size()});
  }
  return {};
}

}  // namespace trireme
