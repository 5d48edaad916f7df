// Rewrites a regular expression of tokenizer.json into PCRE2's syntax with the same meaning.
//
// HF tokenizers runs these patterns with Oniguruma in its Ruby syntax. Most of a pattern means the
// same to PCRE2 (UTF, UCP, MULTILINE, newline LF); what does not is rewritten here:
//   \s            PCRE2's holds U+180E: the White_Space set is written out; \w, \d, \h, \b,
//                 [:alpha:] and their kin have Oniguruma's sets too
//   x{1,3}+       in Ruby's syntax a repeated repetition, not a possessive one
//   (?m)          dot matches newline: PCRE2's (?s)
//   a(?i)b|c      applies to the rest of the group, with its alternatives: a(?i:b|c)
//   [a&&[^b]]     sets inside sets: written with look-ahead
//   \p{Han}       a script's own characters, not PCRE2's script extensions
//   \p{L}         Unicode 16, where PCRE2 10.42 has Unicode 14: unicode_since_14.h
// What is not understood is refused, so that nothing is matched in a wrong way without a word:
// back-references, named groups, conditions, \G, \K, \X, free spacing, verbs.
#pragma once

#include <string>
#include <string_view>

#include "kernels/base/status.h"

namespace trireme {

// REQUIRES: pattern is well-formed UTF-8. Errors are one sentence that quotes the pattern.
Result<std::string> pcre2_from_onig(std::string_view pattern);

}  // namespace trireme
