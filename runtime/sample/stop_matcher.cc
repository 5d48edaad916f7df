#include "runtime/sample/stop_matcher.h"

#include <algorithm>
#include <utility>

#include "kernels/base/check.h"

namespace trireme {
namespace {

// How many of the last bytes of `text` are the beginning of `stop`, all of it excluded.
size_t beginning_at_end(std::string_view text, std::string_view stop) {
  for (size_t n = std::min(text.size(), stop.size() - 1); n > 0; --n) {
    if (text.substr(text.size() - n) == stop.substr(0, n)) return n;
  }
  return 0;
}

}  // namespace

std::string StopMatcher::push(std::string_view piece) {
  CHECK(!stopped_);
  held_ += piece;
  size_t begin = 0, end = std::string::npos;
  for (const std::string& stop : stops_) {
    const size_t at = held_.find(stop);
    if (at == std::string::npos) continue;
    if (at + stop.size() > end || (at + stop.size() == end && at >= begin)) continue;
    begin = at;
    end = at + stop.size();
    found_ = stop;
  }
  if (end != std::string::npos) {
    stopped_ = true;
    held_.resize(include_ ? end : begin);
    return std::exchange(held_, {});
  }
  size_t hold = 0;
  for (const std::string& stop : stops_) hold = std::max(hold, beginning_at_end(held_, stop));
  std::string shown = held_.substr(0, held_.size() - hold);
  held_.erase(0, shown.size());
  return shown;
}

std::string StopMatcher::finish() {
  CHECK(!stopped_);
  return std::exchange(held_, {});
}

}  // namespace trireme
