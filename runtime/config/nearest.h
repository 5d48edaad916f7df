// "did you mean": the known word that is nearest to a misspelt one.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace trireme {

// The one of `words` that the fewest insertions, deletions, replacements and swaps of neighbours
// turn `word` into, if these are at most a third of its letters; "" if there is none. Of equals the
// first.
std::string_view nearest(std::string_view word, std::span<const std::string_view> words);

// " (did you mean 'x'?)", or "".
std::string did_you_mean(std::string_view word, std::span<const std::string_view> words);

}  // namespace trireme
