// What a GPU leaves for the cache.
#include "launcher/commands/gpu_cache.h"

#include <gtest/gtest.h>

namespace trireme {
namespace {

constexpr uint64_t kGiB = uint64_t{1} << 30;

TEST(GpuCache, IsTheShareWithoutWhatIsInUse) {
  EXPECT_EQ(*gpu_cache_bytes({100, 100}, 0.9f, 1, 0), 90u);
  EXPECT_EQ(*gpu_cache_bytes({100, 60}, 0.9f, 1, 0), 50u);
  EXPECT_EQ(*gpu_cache_bytes({100, 60}, 0.9f, 2, 0), 25u);
  EXPECT_EQ(*gpu_cache_bytes({99, 99}, 0.5f, 1, 0), 49u);
  EXPECT_EQ(*gpu_cache_bytes({100, 11}, 0.9f, 1, 0), 1u);
  // All of it: what is free, and not a byte more.
  EXPECT_EQ(*gpu_cache_bytes({80 * kGiB, 7 * kGiB + 3}, 1.0f, 1, 0), 7 * kGiB + 3);
}

TEST(GpuCache, NothingLeftIsASentence) {
  const Result<uint64_t> bytes = gpu_cache_bytes({80 * kGiB, 4 * kGiB}, 0.9f, 1, 0);
  EXPECT_EQ(bytes.status().code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(bytes.status().message(),
            "no memory of the GPU is left for the cache: of 80 GiB gpu_memory_utilization 0.9 "
            "allows 72 GiB, and weights, workspaces and other programs use 76 GiB: lower "
            "max_num_batched_tokens or raise gpu_memory_utilization");
  EXPECT_EQ(*gpu_cache_bytes({100, 60}, 0.9f, 2, 20), 5u);  // 25 for each rank, 20 beside the cache
  EXPECT_FALSE(gpu_cache_bytes({100, 60}, 0.9f, 2, 25).ok());
  EXPECT_FALSE(gpu_cache_bytes({100, 10}, 0.9f, 1, 0).ok());  // exactly nothing
  EXPECT_FALSE(gpu_cache_bytes({100, 11}, 0.9f, 2, 0).ok());  // less than a byte each
}

}  // namespace
}  // namespace trireme
