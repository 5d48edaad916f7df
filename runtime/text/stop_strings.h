// Looks for a request's stop strings in the text that it generates. One thread at a time.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace trireme {

// INVARIANT: what comes out does not depend on how the text was cut into pieces.
// INVARIANT: held back is exactly the longest end of the text that may begin a stop string, less
// than the longest of them; a piece that comes in as whole characters goes out as whole characters.
class StopStrings {
 public:
  // Empty strings are ignored. `include_stop`: the stop string is part of the output.
  explicit StopStrings(std::vector<std::string> stops, bool include_stop = false);

  // What may be sent of the text so far. Where several stop strings end at the same byte, the
  // longest counts. After a stop: "". `armed` false: text passes by unsearched (a request's first
  // min_tokens); what was held back goes out.
  // Time: bytes of text times stop strings, whatever the strings are (Knuth, Morris, Pratt).
  std::string push(std::string_view text, bool armed = true);
  // What was held back: the text ended without a stop string.
  std::string finish();

  bool stopped() const { return stopped_; }
  // The stop string that was found; empty before.
  const std::string& stop() const { return stop_; }

 private:
  struct Stop {
    std::string text;
    std::vector<size_t> fallback;  // [i]: the longest proper border of text's first i bytes
    size_t matched = 0;            // so many bytes of `text` are the end of what was pushed
  };
  std::vector<Stop> stops_;
  bool include_stop_;
  bool stopped_ = false;
  std::string stop_;
  std::string held_;
};

}  // namespace trireme
