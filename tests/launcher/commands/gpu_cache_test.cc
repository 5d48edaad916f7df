// What a GPU leaves for the cache.
#include "launcher/commands/gpu_cache.h"

#include <gtest/gtest.h>

namespace trireme {
namespace {

constexpr uint64_t kGiB = uint64_t{1} << 30;

TEST(GpuCache, IsTheShareWithoutWhatIsInUse) {
  EXPECT_EQ(*gpu_cache_bytes({100, 100}, 0.9f, 1), 90u);
  EXPECT_EQ(*gpu_cache_bytes({100, 60}, 0.9f, 1), 50u);
  EXPECT_EQ(*gpu_cache_bytes({100, 60}, 0.9f, 2), 25u);
  EXPECT_EQ(*gpu_cache_bytes({99, 99}, 0.5f, 1), 49u);
  EXPECT_EQ(*gpu_cache_bytes({100, 11}, 0.9f, 1), 1u);
  // All of it: what is free, and not a byte more.
  EXPECT_EQ(*gpu_cache_bytes({80 * kGiB, 7 * kGiB + 3}, 1.0f, 1), 7 * kGiB + 3);
}

TEST(GpuCache, NothingLeftIsASentence) {
  const Result<uint64_t> bytes = gpu_cache_bytes({80 * kGiB, 4 * kGiB}, 0.9f, 1);
  EXPECT_EQ(bytes.status().code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(bytes.status().message(),
            "no memory of the GPU is left for the cache: of 80 GiB gpu_memory_utilization 0.9 "
            "allows 72 GiB, and weights, workspaces and other programs use 76 GiB: lower "
            "max_num_batched_tokens or raise gpu_memory_utilization");
  EXPECT_FALSE(gpu_cache_bytes({100, 10}, 0.9f, 1).ok());  // exactly nothing
  EXPECT_FALSE(gpu_cache_bytes({100, 11}, 0.9f, 2).ok());  // less than a byte each
}

}  // namespace
}  // namespace trireme
