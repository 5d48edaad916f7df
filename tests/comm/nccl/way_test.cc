// The choice between NCCL and the host, and the communicator that is made of it.
#include "comm/nccl/way.h"

#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "comm/in_process/in_process.h"
#include "comm/nccl/device_communicator.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/emulator/emulator.h"
#include "tests/comm/nccl/fake_nccl.h"

namespace trireme {
namespace {

TEST(DeviceWay, NcclWhereEachRankHasItsOwnGpu) {
  const std::vector<RankGpu> ranks = {{"host a", "0000:10:00.0", 22809},
                                      {"host a", "0000:11:00.0", 22809},
                                      {"host b", "0000:10:00.0", 22809}};
  const DeviceWayChoice choice = choose_device_way(ranks);
  EXPECT_EQ(choice.way, DeviceWay::kNccl);
  EXPECT_EQ(choice.why,
            "tensors of the GPUs go over NCCL 2.28.9: each of the 3 ranks has its own GPU");
}

TEST(DeviceWay, StagedWithOneSentence) {
  const RankGpu a{"host a", "0000:10:00.0", 22809}, b{"host a", "0000:11:00.0", 22809};
  const struct {
    std::vector<RankGpu> ranks;
    std::string because;
  } cases[] = {
      {{a}, "there is one rank"},
      {{a, b, a}, "ranks 0 and 2 share the GPU 0000:10:00.0, which NCCL does not support"},
      {{a, {"host b", "0000:10:00.0", 0}}, "rank 1 has no NCCL"},
      {{a, {"host b", "0000:10:00.0", 22103}}, "rank 0 has NCCL 2.28.9 and rank 1 has 2.21.3"},
  };
  for (const auto& c : cases) {
    const DeviceWayChoice choice = choose_device_way(c.ranks);
    EXPECT_EQ(choice.way, DeviceWay::kStaged);
    EXPECT_EQ(choice.why, "tensors of the GPUs go through host memory: " + c.because);
  }
}

// Two ranks on GPUs of these ordinals: both come to the same answer, and sums work either way.
void expect_way(int gpu_of_rank_1, bool nccl_everywhere, DeviceWay way) {
  emulator::set_device_count(2);
  FakeNccl nccl;
  auto controls = make_in_process_world(2);
  std::vector<std::thread> threads;
  for (int r = 0; r < 2; ++r) {
    threads.emplace_back([&, r, control = std::move(controls[size_t(r)])]() mutable {
      emulator::set_streams_run_by_themselves(true);
      NcclOptions options;
      options.ordinal = r == 0 ? 0 : gpu_of_rank_1;
      CudaOptions gpu;
      gpu.ordinal = options.ordinal;
      auto device = make_cuda_device(gpu);
      ASSERT_TRUE(device.ok());
      const NcclApi* api = r == 0 || nccl_everywhere ? &nccl.api() : nullptr;
      auto made = make_device_communicator(std::move(control), **device, api, options);
      ASSERT_TRUE(made.ok()) << made.status().message();
      EXPECT_EQ(made->choice.way, way) << made->choice.why;
      EXPECT_EQ(made->nccl != nullptr, way == DeviceWay::kNccl);
      EXPECT_EQ(made->world->capturable(), way == DeviceWay::kNccl);
      Buffer x = (*device)->allocate(40).take();
      const std::vector<float> ones(10, 1.0f);
      (*device)->copy(x.data(), ones.data(), 40);
      const TensorView view = tensor(x.data(), 1, 10, DType::kF32, Place::kCuda);
      EXPECT_TRUE(made->world->all_reduce_sum(view).ok());
      std::vector<float> sums(10);
      (*device)->copy(sums.data(), x.data(), 40);
      EXPECT_TRUE((*device)->synchronize().ok());
      EXPECT_EQ(sums, std::vector<float>(10, 2.0f));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(nccl.open(), 0);
}

TEST(DeviceWay, AllRanksTakeTheSame) {
  expect_way(1, true, DeviceWay::kNccl);
  expect_way(0, true, DeviceWay::kStaged);
  expect_way(1, false, DeviceWay::kStaged);
}

}  // namespace
}  // namespace trireme
