// Meshes against worlds, what the environment says, and that several ranks give one message and one
// exit code (ranks as threads).
#include "launcher/world.h"

#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "comm/in_process/in_process.h"

namespace trireme {
namespace {

TEST(ChooseMesh, TakesWhatIsGivenOrTheWholeWorld) {
  const struct {
    int shards, stages, world;  // 0 = not given
    int expect_shards, expect_stages;
  } cases[] = {{0, 0, 1, 1, 1}, {0, 0, 4, 4, 1}, {2, 2, 4, 2, 2},
               {2, 0, 2, 2, 1}, {0, 3, 3, 1, 3}, {1, 1, 1, 1, 1}};
  for (const auto& c : cases) {
    EngineOptions engine;
    if (c.shards > 0) engine.tensor_parallel_size = c.shards;
    if (c.stages > 0) engine.pipeline_parallel_size = c.stages;
    Mesh mesh;
    const Status status = choose_mesh(engine, c.world, mesh);
    EXPECT_TRUE(status.ok()) << status.message();
    EXPECT_EQ(mesh.shards, c.expect_shards);
    EXPECT_EQ(mesh.stages, c.expect_stages);
  }
}

TEST(ChooseMesh, SaysHowToStartAnotherWorld) {
  EngineOptions engine;
  engine.tensor_parallel_size = 2;
  Mesh mesh;
  EXPECT_EQ(choose_mesh(engine, 3, mesh).message(),
            "the world has 3 ranks, but tensor_parallel_size 2 x pipeline_parallel_size 1 needs 2: "
            "start it with mpirun -n 2, or without mpirun");
  EXPECT_FALSE(choose_mesh(engine, 1, mesh).ok());
}

// The variables of launchers, put back afterwards.
class LaunchedAsTest : public ::testing::Test {
 protected:
  static constexpr const char* kNames[] = {
      "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_SIZE",
      "SLURM_STEP_NUM_TASKS"};
  LaunchedAsTest() {
    for (const char* name : kNames) {
      const char* value = std::getenv(name);
      saved_.emplace_back(value == nullptr ? "" : value);
      unsetenv(name);
    }
  }
  ~LaunchedAsTest() override {
    for (size_t i = 0; i < std::size(kNames); ++i) {
      unsetenv(kNames[i]);
      if (!saved_[i].empty()) setenv(kNames[i], saved_[i].c_str(), 1);
    }
  }
  std::vector<std::string> saved_;
};

TEST_F(LaunchedAsTest, Alone) {
  const Result<LaunchedAs> launched = launched_as();
  ASSERT_TRUE(launched.ok());
  EXPECT_FALSE(launched->by_mpi);
  const Result<RankWorld> world = make_world(*launched);
  ASSERT_TRUE(world.ok());
  EXPECT_EQ(world->size, 1);
  EXPECT_EQ(world->mpi, nullptr);
}

TEST_F(LaunchedAsTest, ByMpirunOrSrun) {
  setenv("OMPI_COMM_WORLD_RANK", "2", 1);
  setenv("OMPI_COMM_WORLD_SIZE", "4", 1);
  EXPECT_TRUE(launched_as()->by_mpi);
  EXPECT_EQ(launched_as()->rank, 2);
  EXPECT_EQ(launched_as()->size, 4);
  unsetenv("OMPI_COMM_WORLD_RANK");
  unsetenv("OMPI_COMM_WORLD_SIZE");
  setenv("PMIX_RANK", "1", 1);
  setenv("SLURM_STEP_NUM_TASKS", "2", 1);
  EXPECT_TRUE(launched_as()->by_mpi);
  EXPECT_EQ(launched_as()->rank, 1);
  EXPECT_EQ(launched_as()->size, 2);
}

TEST_F(LaunchedAsTest, SrunWithoutMpiIsAnError) {
  setenv("SLURM_STEP_NUM_TASKS", "2", 1);
  EXPECT_FALSE(launched_as().ok());
  setenv("SLURM_STEP_NUM_TASKS", "1", 1);  // a shell of salloc
  EXPECT_TRUE(launched_as().ok());
}

// Every rank settles `mine(rank)`; gives the exit codes, and what was printed.
std::vector<int> settle_all(int ranks, const std::function<Status(int)>& mine,
                            std::string* printed) {
  auto communicators = make_in_process_world(ranks);
  std::vector<int> codes(static_cast<size_t>(ranks), -1);
  ::testing::internal::CaptureStderr();
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      RankWorld world;
      world.world = std::move(communicators[static_cast<size_t>(rank)]);
      world.rank = rank;
      world.size = ranks;
      world.mesh = {.stages = ranks / 2, .shards = 2};
      codes[static_cast<size_t>(rank)] = settle(world, mine(rank), Doing::kLoadingModel);
    });
  }
  for (std::thread& t : threads) t.join();
  *printed = ::testing::internal::GetCapturedStderr();
  return codes;
}

TEST(Settle, AllWell) {
  std::string printed;
  EXPECT_EQ(settle_all(
                4, [](int) { return Status{}; }, &printed),
            std::vector<int>(4, 0));
  EXPECT_EQ(printed, "");
}

TEST(Settle, TheSameErrorEverywhereIsSaidOnceWithoutARank) {
  std::string printed;
  EXPECT_EQ(settle_all(
                4, [](int) { return not_found("m: no such folder"); }, &printed),
            std::vector<int>(4, 5));
  EXPECT_EQ(printed, "trireme: m: no such folder\n");
}

TEST(Settle, OneRanksErrorNamesItAndAllReturnItsCode) {
  std::string printed;
  const auto mine = [](int rank) { return rank == 3 ? resource_exhausted("no memory") : Status{}; };
  EXPECT_EQ(settle_all(4, mine, &printed), std::vector<int>(4, 3));
  EXPECT_EQ(printed, "trireme: rank 3 (stage 1, shard 1): no memory\n");
}

TEST(Settle, OfDifferentErrorsTheFirstRanksCounts) {
  std::string printed;
  const auto mine = [](int rank) {
    return rank == 0   ? Status{}
           : rank == 1 ? data_loss("damaged")
                       : resource_exhausted("no memory");
  };
  EXPECT_EQ(settle_all(4, mine, &printed), std::vector<int>(4, 5));
  EXPECT_EQ(printed, "trireme: rank 1 (stage 0, shard 1): damaged\n");
}

TEST(Settle, AloneThereIsNobodyToAsk) {
  RankWorld alone;
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(settle(alone, data_loss("damaged"), Doing::kLoadingModel), 5);
  EXPECT_EQ(fail(alone, data_loss("damaged"), Doing::kRunning), 1);
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "trireme: damaged\ntrireme: damaged\n");
  EXPECT_EQ(settle(alone, Status{}, Doing::kLoadingModel), 0);
}

}  // namespace
}  // namespace trireme
