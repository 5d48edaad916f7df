// A request that can never run is refused with the numbers and with what to lower.
#include "runtime/schedule/capacity.h"

#include <vector>

#include <gtest/gtest.h>

namespace trireme {
namespace {

using Growth = StateSpec::Growth;

CacheLayout mixed() {
  return make_layout(
      std::vector<StateSpec>{
          {Growth::kPerToken, 16, 0}, {Growth::kPerToken, 16, 32}, {Growth::kFixed, 100, 0}},
      4);
}

TEST(Capacity, WhatFitsExactlyFits) {
  const uint32_t total[] = {10, 9, 2};
  EXPECT_TRUE(can_ever_fit(mixed(), total, total).ok());
}

TEST(Capacity, SaysWhatIsShort) {
  const uint32_t total[] = {10, 9, 2};
  const uint32_t long_one[] = {12, 9, 1}, wide[] = {10, 11, 1}, many[] = {10, 9, 3};
  const Status full = can_ever_fit(mixed(), total, long_one);
  EXPECT_EQ(full.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(full.message(),
            "the request may hold 12 blocks (48 tokens, 768 bytes) of the cache for full "
            "attention, and there are 10 blocks (40 tokens, 640 bytes): shorten the prompt, lower "
            "max_tokens or n, or raise cpu_kv_cache_space, on a GPU gpu_memory_utilization");
  EXPECT_NE(can_ever_fit(mixed(), total, wide).message().find("a window of 32 tokens"),
            std::string::npos);
  const std::string states = can_ever_fit(mixed(), total, many).message();
  EXPECT_NE(states.find("3 sequences (384 bytes)"), std::string::npos) << states;
  EXPECT_NE(states.find("lower n"), std::string::npos) << states;
  EXPECT_EQ(states.find("max_tokens"), std::string::npos) << "that would not help: " << states;
}

TEST(Capacity, NamesTheClassThatIsExceededMost) {
  const uint32_t total[] = {10, 9, 2};
  const uint32_t both[] = {11, 9, 4};
  EXPECT_NE(can_ever_fit(mixed(), total, both).message().find("recurrent states"),
            std::string::npos);
  const uint32_t none[] = {0, 9, 1}, other[] = {1, 9, 2};
  EXPECT_NE(can_ever_fit(mixed(), none, other).message().find("full attention"), std::string::npos);
}

}  // namespace
}  // namespace trireme
