#include "runtime/text/stop_strings.h"

#include <algorithm>
#include <utility>

namespace trireme {

StopStrings::StopStrings(std::vector<std::string> stops, bool include_stop)
    : include_stop_(include_stop) {
  for (std::string& text : stops) {
    if (text.empty()) continue;
    Stop stop;
    stop.fallback.assign(text.size() + 1, 0);
    for (size_t i = 1, border = 0; i < text.size(); ++i) {
      while (border > 0 && text[i] != text[border]) border = stop.fallback[border];
      if (text[i] == text[border]) ++border;
      stop.fallback[i + 1] = border;
    }
    stop.text = std::move(text);
    stops_.push_back(std::move(stop));
  }
  // The longest first: of those that end at the same byte it is found first.
  std::stable_sort(stops_.begin(), stops_.end(),
                   [](const Stop& a, const Stop& b) { return a.text.size() > b.text.size(); });
}

std::string StopStrings::push(std::string_view text, bool armed) {
  if (stopped_) return {};
  std::string out = std::exchange(held_, {});
  if (!armed) {
    for (Stop& stop : stops_) stop.matched = 0;
    return out.append(text);
  }
  const size_t before = out.size();
  out.append(text);
  for (size_t i = before; i < out.size(); ++i) {
    for (Stop& stop : stops_) {
      while (stop.matched > 0 && out[i] != stop.text[stop.matched]) {
        stop.matched = stop.fallback[stop.matched];
      }
      if (out[i] == stop.text[stop.matched]) ++stop.matched;
      if (stop.matched < stop.text.size()) continue;
      stopped_ = true;
      stop_ = stop.text;
      out.resize(i + 1 - (include_stop_ ? 0 : stop.text.size()));
      return out;
    }
  }
  size_t hold = 0;
  for (const Stop& stop : stops_) hold = std::max(hold, stop.matched);
  held_ = out.substr(out.size() - hold);
  out.resize(out.size() - hold);
  return out;
}

std::string StopStrings::finish() { return std::exchange(held_, {}); }

}  // namespace trireme
