// The progress line: what it says and when it is due.
#include "runtime/model/weights/load_progress.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace trireme {
namespace {

using std::chrono::milliseconds;

constexpr uint64_t kGiB = uint64_t{1} << 30;

TEST(LoadProgress, Format) {
  const auto gib = [](double x) { return static_cast<uint64_t>(x * static_cast<double>(kGiB)); };
  EXPECT_EQ(format_load_progress("weights", gib(12.4), gib(16.1), 4),
            "weights 12.4/16.1 GiB 77% 3.1 GiB/s");
  EXPECT_EQ(format_load_progress("weights", kGiB / 4, kGiB / 2, 2),
            "weights 256.0/512.0 MiB 50% 128.0 MiB/s");
  EXPECT_EQ(format_load_progress("weights", 999, 1000, 0), "weights 0.0/0.0 MiB 99%");
  EXPECT_EQ(format_load_progress("weights", 0, 0, 0), "weights 0.0/0.0 MiB 100%");
  EXPECT_EQ(format_load_progress("weights", kGiB, kGiB, 1), "weights 1.0/1.0 GiB 100% 1.0 GiB/s");
}

TEST(LoadProgress, ShortLoadsAreSilentAndLongOnesSayOncePerInterval) {
  std::vector<std::string> lines;
  const LoadProgress::Time start{};
  LoadProgress progress("weights", 8 * kGiB, start,
                        [&](const std::string& line) { lines.push_back(line); });
  progress.add(kGiB, start + milliseconds(1900));
  EXPECT_TRUE(lines.empty());
  LoadProgress quick = progress;
  quick.finish(start + milliseconds(1950));
  EXPECT_TRUE(lines.empty());
  progress.add(kGiB, start + milliseconds(2000));
  progress.add(kGiB, start + milliseconds(2100));
  progress.add(kGiB, start + milliseconds(4000));
  progress.add(4 * kGiB, start + milliseconds(5000));
  progress.finish(start + milliseconds(8000));
  EXPECT_EQ(lines, (std::vector<std::string>{"weights 2.0/8.0 GiB 25% 1.0 GiB/s",
                                             "weights 4.0/8.0 GiB 50% 1.0 GiB/s",
                                             "weights 8.0/8.0 GiB 100% 1.0 GiB/s"}));
}

}  // namespace
}  // namespace trireme
