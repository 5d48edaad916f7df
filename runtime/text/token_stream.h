// Turns the tokens of one sequence into text as they come. One thread at a time; the tokenizer must
// outlive it.
#pragma once

#include <cstdint>
#include <string>

#include "runtime/text/tokenizer.h"
#include "runtime/text/utf8.h"

namespace trireme {

// INVARIANT: every piece is well-formed UTF-8: no character is ever split.
// INVARIANT: at most 3 bytes of an incomplete character are held back, and the characters that the
// decoder may yet take off the end (TextRules::strip_end; 0 in all models that we know).
// INVARIANT: all pieces together are decode() of all ids, with one exception: a run of fallback
// bytes that turns bad after it gave a whole character. decode() replaces every byte of such a run,
// as HF does; the stream has sent the good characters and replaces the bytes after them.
class TokenStream {
 public:
  explicit TokenStream(const Tokenizer& tokenizer, bool skip_special = true)
      : TokenStream(tokenizer, skip_special, /*whole_runs=*/false) {}

  // For tokens that go on after a prompt: nothing is taken off their start, so that a first token
  // that begins a word keeps its space ("▁of" is " of", where a text that begins with it has "of").
  static TokenStream after_prompt(const Tokenizer& tokenizer, bool skip_special = true) {
    TokenStream stream(tokenizer, skip_special);
    stream.first_ = false;
    stream.strip_left_ = 0;
    return stream;
  }

  // What `id` lets us say.
  std::string push(int32_t id);
  // What was held back: no more tokens will come.
  std::string finish();

 private:
  friend class Tokenizer;
  // whole_runs: hold back a run of fallback bytes until it ends, as decode() has to.
  TokenStream(const Tokenizer& tokenizer, bool skip_special, bool whole_runs)
      : tokenizer_(tokenizer),
        rules_(tokenizer.text_rules()),
        skip_special_(skip_special),
        whole_runs_(whole_runs),
        strip_left_(rules_.strip_start) {}
  void push_to(int32_t id, std::string& text);
  void finish_to(std::string& text);
  void add_fallback_byte(char byte, std::string& text);
  void end_run(std::string& text);
  void strip_start_of(std::string& text);
  void hold_back_end_of(std::string& text);

  const Tokenizer& tokenizer_;
  const TextRules& rules_;
  bool skip_special_;
  bool whole_runs_;
  bool first_ = true;
  Utf8Assembler assembler_;
  std::string run_;       // fallback bytes that are not text yet
  bool run_bad_ = false;  // the run had a byte that is not text
  size_t strip_left_;     // so many characters may still be taken off the start
  std::string tail_;      // what may have to be taken off the end
};

}  // namespace trireme
