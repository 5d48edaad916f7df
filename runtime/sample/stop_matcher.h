// Finds the stop strings of a request in its text as the text comes, piece by piece, whatever way
// the pieces are cut, and holds back what may still turn out to be the start of one. One per
// choice of a request; not thread-safe.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/sample/sampling_params.h"

namespace trireme {

class StopMatcher {
 public:
  explicit StopMatcher(const SamplingParams& params)
      : stops_(params.stop), include_(params.include_stop_str_in_output) {}

  // Takes the next piece of text and returns what may be shown of all text not yet shown: up to
  // the first stop string (with it where include_stop_str_in_output is set), or up to the longest
  // end that a stop string begins with. The stop string that ends first counts; of those that end
  // together, the longest: so the cuts do not matter.
  // REQUIRES: !stopped().
  std::string push(std::string_view piece);

  // The text that is still held back: no more comes. REQUIRES: !stopped().
  std::string finish();

  bool stopped() const { return stopped_; }
  // The stop string that was found. REQUIRES: stopped().
  const std::string& found() const { return found_; }

 private:
  std::vector<std::string> stops_;
  bool include_;
  bool stopped_ = false;
  std::string found_;
  std::string held_;  // INVARIANT: holds no stop string, and is a proper beginning of one
};

}  // namespace trireme
