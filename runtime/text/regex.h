// Regular expressions of tokenizer.json: written in Oniguruma's syntax, run by PCRE2 with its JIT
// compiler. onig_syntax.h rewrites the one into the other. A compiled Regex is immutable and may be
// used from any thread; each thread brings its own Scratch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "kernels/base/status.h"

namespace trireme {

class Regex {
 public:
  struct Match {
    size_t begin = 0;
    size_t end = 0;
  };

  // What one thread needs for matching, and the limit of its work: make one for each text.
  class Scratch {
   public:
    // `cpu_ms_max`: what the searches may take, and 5 microseconds for each byte of text besides.
    explicit Scratch(int64_t cpu_ms_max = 3000);
    ~Scratch();
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

   private:
    friend class Regex;
    struct Memory;
    std::unique_ptr<Memory> memory_;
  };

  // Errors say what of the pattern is not supported.
  static Result<Regex> compile(std::string_view onig_pattern);
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;
  ~Regex();

  // The matches in `text` from left to right, none overlapping; an empty match that touches the
  // match before it does not count. `text` is all that look-around sees. Errors: a search passed
  // the step limit (runaway backtracking), or the searches with this Scratch passed its CPU time.
  // REQUIRES: text is well-formed UTF-8.
  Status find_all(std::string_view text, Scratch& scratch, std::vector<Match>& matches) const;

 private:
  struct Code;
  explicit Regex(std::unique_ptr<Code> code);
  std::unique_ptr<Code> code_;
};

}  // namespace trireme
