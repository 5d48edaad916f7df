// What engine.device makes of a machine: with GPUs, with a library that cannot be used, without
// one.
#include "launcher/device_choice.h"

#include <thread>

#include <gtest/gtest.h>

#include "comm/in_process/in_process.h"

namespace trireme {
namespace {

const std::string kFakes = TRIREME_BINARY_DIR "/tests/fake_plugins/";

CudaFound look(const std::string& kind) {
  const std::string folders[] = {kFakes + kind};
  return look_for_cuda(folders);
}

TEST(DeviceChoice, GpusAreSharedOutByRankOfTheHost) {
  const CudaFound found = look("good");
  ASSERT_TRUE(found.problem.ok()) << found.problem.message();
  ASSERT_EQ(found.gpus.size(), 2u);
  struct {
    int host_rank, host_size, gpu, ranks_on_gpu;
  } const cases[] = {{0, 1, 0, 1}, {0, 2, 0, 1}, {1, 2, 1, 1}, {0, 3, 0, 2},
                     {1, 3, 1, 1}, {2, 3, 0, 2}, {3, 4, 1, 2}};
  for (const DeviceKind wanted : {DeviceKind::kAuto, DeviceKind::kCuda}) {
    for (const auto& c : cases) {
      const Result<DeviceChoice> choice = choose_device(wanted, found, c.host_rank, c.host_size);
      ASSERT_TRUE(choice.ok());
      EXPECT_EQ(choice->kind, DeviceKind::kCuda);
      EXPECT_EQ(choice->gpu, c.gpu) << c.host_rank << " of " << c.host_size;
      EXPECT_EQ(choice->ranks_on_gpu, c.ranks_on_gpu) << c.host_rank << " of " << c.host_size;
      EXPECT_EQ(choice->note, "");
    }
  }
  EXPECT_EQ(choose_device(DeviceKind::kCpu, found, 0, 1)->kind, DeviceKind::kCpu);
}

TEST(DeviceChoice, WithoutTheLibraryAutoIsTheCpuAndSaysNothing) {
  const CudaFound found = look("nowhere");
  const Result<DeviceChoice> automatic = choose_device(DeviceKind::kAuto, found, 0, 1);
  ASSERT_TRUE(automatic.ok());
  EXPECT_EQ(automatic->kind, DeviceKind::kCpu);
  EXPECT_EQ(automatic->note, "");
  const Result<DeviceChoice> cuda = choose_device(DeviceKind::kCuda, found, 0, 1);
  EXPECT_EQ(cuda.status().code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(cuda.status().message().starts_with(
      "engine.device is cuda, but there is no libtrireme_cuda.so in "))
      << cuda.status().message();
}

TEST(DeviceChoice, ALibraryThatCannotBeUsedIsExplained) {
  for (const std::string kind : {"no-driver", "other-build", "needy", "not-ours"}) {
    const CudaFound found = look(kind);
    const Result<DeviceChoice> automatic = choose_device(DeviceKind::kAuto, found, 0, 1);
    ASSERT_TRUE(automatic.ok());
    EXPECT_EQ(automatic->kind, DeviceKind::kCpu);
    EXPECT_EQ(automatic->note, found.problem.message()) << kind;
    EXPECT_EQ(choose_device(DeviceKind::kCuda, found, 0, 1).status().message(),
              "engine.device is cuda, but " + found.problem.message());
  }
  EXPECT_EQ(look("no-driver").problem.message(), "there is no NVIDIA driver (fake)");
}

TEST(DeviceChoice, OneRankWithoutAGpuPutsAllOnTheCpu) {
  std::vector<std::unique_ptr<Communicator>> worlds = make_in_process_world(3);
  std::vector<DeviceChoice> choices(3);
  choices[0].kind = choices[2].kind = DeviceKind::kCuda;
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 3; ++rank) {
    threads.emplace_back([&, rank] {
      RankWorld world;
      world.rank = rank;
      world.size = 3;
      world.world = std::move(worlds[rank]);
      const Status agreed = agree_on_device(world, choices[rank]);
      EXPECT_TRUE(agreed.ok()) << agreed.message();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const DeviceChoice& choice : choices) EXPECT_EQ(choice.kind, DeviceKind::kCpu);
  EXPECT_EQ(choices[0].note, "rank 1 has no GPU, and all ranks compute on the same kind");
  EXPECT_EQ(choices[1].note, "");
}

}  // namespace
}  // namespace trireme
