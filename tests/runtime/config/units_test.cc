// Sizes and durations: what is read, to the byte, and what is refused.
#include "runtime/config/units.h"

#include <gtest/gtest.h>

namespace trireme {
namespace {

TEST(Units, Sizes) {
  const struct {
    const char* text;
    uint64_t bytes;
  } cases[] = {{"0B", 0},
               {"1B", 1},
               {"10KB", 10'000},
               {"10KiB", 10'240},
               {"512MiB", uint64_t{512} << 20},
               {"1.5GiB", (uint64_t{3} << 30) / 2},
               {"0.5KB", 500},
               {"16GiB", uint64_t{16} << 30},
               {"2TB", 2'000'000'000'000},
               {"1.000GiB", uint64_t{1} << 30},
               {"16777215TiB", uint64_t{16777215} << 40}};
  for (const auto& c : cases) {
    const Result<uint64_t> bytes = parse_size(c.text);
    ASSERT_TRUE(bytes.ok()) << bytes.status().message();
    EXPECT_EQ(*bytes, c.bytes) << c.text;
  }
}

TEST(Units, NoSizes) {
  for (const char* text :
       {"",        "1",    "1073741824", "GiB",   "1 GiB",  "1gib",        "1Gib",
        "1G",      "1GB ", " 1GB",       "-1GB",  "+1GB",   ".5GB",        "5.GB",
        "1.2.3GB", "0.3B", "0.0001KB",   "1e3KB", "0x10KB", "16777216TiB", "99999999999999999999B",
        "1GiBx",   "1s"}) {
    const Result<uint64_t> bytes = parse_size(text);
    EXPECT_FALSE(bytes.ok()) << text << " gave " << *bytes;
  }
  EXPECT_EQ(parse_size("1073741824").status().message(),
            "'1073741824' is not a size: it needs a unit, as in 512MiB or 1.5GiB");
}

TEST(Units, Durations) {
  EXPECT_EQ(*parse_duration_ms("500ms"), 500u);
  EXPECT_EQ(*parse_duration_ms("30s"), 30'000u);
  EXPECT_EQ(*parse_duration_ms("1.5s"), 1'500u);
  EXPECT_EQ(*parse_duration_ms("2m"), 120'000u);
  EXPECT_EQ(*parse_duration_ms("1h"), 3'600'000u);
  for (const char* text : {"30", "0.5ms", "1min", "1 s", "1MB"})
    EXPECT_FALSE(parse_duration_ms(text).ok()) << text;
}

TEST(Units, FormatsWithTheLargestUnit) {
  EXPECT_EQ(format_size(0), "0 B");
  EXPECT_EQ(format_size(1023), "1023 B");
  EXPECT_EQ(format_size(1024), "1 KiB");
  EXPECT_EQ(format_size(uint64_t{3} << 29), "1.5 GiB");
  EXPECT_EQ(format_size(uint64_t{5} << 40), "5 TiB");
}

}  // namespace
}  // namespace trireme
