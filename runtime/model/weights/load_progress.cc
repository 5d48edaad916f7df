#include "runtime/model/weights/load_progress.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace trireme {
namespace {

constexpr double kMiB = 1 << 20;
constexpr double kGiB = 1 << 30;

}  // namespace

std::string format_load_progress(std::string_view what, uint64_t bytes_done, uint64_t bytes_total,
                                 double seconds) {
  const auto total = static_cast<double>(bytes_total);
  const auto done = static_cast<double>(bytes_done);
  const bool large = total >= kGiB;
  const double unit = large ? kGiB : kMiB;
  const std::string_view unit_name = large ? "GiB" : "MiB";
  // 100% means that nothing is missing: round down.
  const int percent =
      bytes_done >= bytes_total ? 100 : std::min(99, static_cast<int>(100 * done / total));
  std::string line =
      fmt::format("{} {:.1f}/{:.1f} {} {}%", what, done / unit, total / unit, unit_name, percent);
  if (seconds > 0) line += fmt::format(" {:.1f} {}/s", done / unit / seconds, unit_name);
  return line;
}

LoadProgress::LoadProgress(std::string what, uint64_t bytes_total, Time start, Print print)
    : what_(std::move(what)),
      bytes_total_(bytes_total),
      start_(start),
      print_(std::move(print)),
      last_print_(start) {}

void LoadProgress::add(uint64_t bytes, Time now) {
  bytes_done_ += bytes;
  if (now - last_print_ < kInterval) return;
  last_print_ = now;
  printed_ = true;
  print_(line(now));
}

void LoadProgress::finish(Time now) {
  if (printed_) print_(line(now));
}

std::string LoadProgress::line(Time now) const {
  return format_load_progress(what_, bytes_done_, bytes_total_,
                              std::chrono::duration<double>(now - start_).count());
}

}  // namespace trireme
