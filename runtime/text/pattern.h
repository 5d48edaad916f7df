// What Split and Replace of tokenizer.json look for: a string or a regular expression. Immutable;
// any thread, each with its own Scratch.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/base/status.h"
#include "runtime/text/regex.h"

namespace trireme {

class Pattern {
 public:
  // The characters themselves. The empty string matches between all characters.
  static Result<Pattern> literal(std::string text);
  static Result<Pattern> regex(std::string_view onig_pattern);

  // As Regex::find_all; an empty text has no match.
  Status find_all(std::string_view text, Regex::Scratch& scratch,
                  std::vector<Regex::Match>& matches) const;

 private:
  std::string literal_;
  std::optional<Regex> regex_;
};

}  // namespace trireme
