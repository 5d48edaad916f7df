// NCCL that fails: whatever goes wrong, wherever a rank stands, its communicators answer with one
// sentence from then on, NCCL is aborted, so that nobody waits for ever, and the worker is told
// once.
#include <array>
#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include "comm/nccl/nccl_rank.h"
#include "tests/comm/nccl/nccl_ranks.h"

#define TRY(expression) \
  if (Status try_status = (expression); !try_status.ok()) return try_status

namespace trireme {
namespace {

using std::chrono::milliseconds;
using Fault = FakeNccl::Fault;

// Each rank's calls of on_failure.
struct Told {
  std::atomic<int> times{0};
  std::mutex mutex;
  std::string message;
};

constexpr auto kDeadline = std::chrono::seconds(60);

// Deadlines are measured by a clock that stands until the test has seen what hangs; then it runs, a
// second at a time, until all ranks have ended. So no deadline is reached by chance.
class NcclFailures : public testing::Test {
 protected:
  using Body = std::function<Status(NcclTestRank&)>;

  // `hung()` returns when the clock may run; none: it never does.
  std::vector<Status> run(int size, FakeNccl& nccl, const Body& body,
                          const std::function<void()>& hung = {}) {
    return run_nccl_ranks(
        size, nccl, [this](int rank) { return options(rank); }, body,
        [this, &hung](const std::atomic<bool>& over) {
          if (!hung) return;
          hung();
          while (!over) {
            ++seconds_;
            std::this_thread::yield();
          }
        });
  }
  // The rank was told once, of what its communicators answer.
  void expect_told(int rank, const Status& answer) {
    Told& told = told_[size_t(rank)];
    EXPECT_EQ(told.times, 1) << "rank " << rank;
    const std::scoped_lock lock(told.mutex);
    EXPECT_EQ(told.message, answer.message()) << "rank " << rank;
  }

  NcclOptions options(int rank) {
    NcclOptions options;
    options.work_deadline = work_deadline_;
    options.connect_deadline = connect_deadline_;
    options.finish_deadline = std::chrono::seconds(5);
    options.poll_interval = milliseconds(2);
    options.now = [this] {
      return std::chrono::steady_clock::time_point(std::chrono::seconds(seconds_.load()));
    };
    options.on_failure = [told = &told_[size_t(rank)]](const Status& status) {
      ++told->times;
      const std::scoped_lock lock(told->mutex);
      told->message = status.message();
    };
    return options;
  }

  milliseconds work_deadline_ = kDeadline, connect_deadline_ = kDeadline;
  std::array<Told, 4> told_;

 private:
  std::atomic<int64_t> seconds_{1};
};

// Calls until one fails, waiting for the device after each; then every kind of call gives the same
// answer, those on host tensors too.
Status sums_until_failure(NcclTestRank& rank) {
  DeviceFloats x(rank.device, 1, 100), all(rank.device, 2, 100);
  float host = 1;
  Status failure;
  while (failure.ok()) {
    failure = rank.world.all_reduce_sum(x.view());
    EXPECT_TRUE(rank.device.synchronize().ok());
  }
  const int other = 1 - rank.world.rank();
  const Status again[] = {
      rank.world.all_reduce_sum(x.view()),
      rank.world.all_gather(x.view(), all.view()),
      rank.world.broadcast(x.view(), 0),
      rank.world.send(x.view(), other),
      rank.world.receive(x.view(), other),
      rank.world.all_reduce_sum(tensor(&host, 1, 1)),
      rank.world.barrier(),
      rank.world.split(0, 0).status(),
      rank.world.status(),
  };
  for (const Status& status : again) EXPECT_EQ(status.message(), failure.message());
  return failure;
}

// Rank 1's third all-reduce fails. Over a network the others are told when it aborts.
TEST_F(NcclFailures, ACallThatFails) {
  FakeNccl nccl([](const FakeNccl::Call& call) {
    return call.rank == 1 && call.number == 2 ? Fault::kFail : Fault::kNone;
  });
  nccl.tell_others_of_aborts();
  const auto answers = run(2, nccl, sums_until_failure);
  EXPECT_EQ(answers[1].message(),
            "rank 1 of 2: all_reduce_sum in a group of 2 (there rank 1): NCCL says: a system call "
            "failed");
  EXPECT_EQ(answers[1].code(), StatusCode::kUnavailable);
  EXPECT_EQ(answers[0].message(),
            "rank 0 of 2: all_reduce_sum in a group of 2 (there rank 0): NCCL says: a remote "
            "process is gone");
  for (int r = 0; r < 2; ++r) expect_told(r, answers[size_t(r)]);
  EXPECT_EQ(complaints(nccl), "");
  EXPECT_EQ(nccl.aborted(), 2);
}

// Over NVLink nobody is told: the others meet their deadline, wherever they wait.
TEST_F(NcclFailures, ACallThatFailsWhereNobodyIsTold) {
  FakeNccl nccl([](const FakeNccl::Call& call) {
    return call.rank == 1 && call.number == 2 ? Fault::kFail : Fault::kNone;
  });
  const auto answers = run(2, nccl, sums_until_failure, [&] { nccl.wait_until_gone(1); });
  EXPECT_EQ(answers[1].code(), StatusCode::kUnavailable);
  EXPECT_EQ(answers[0].message(),
            "rank 0 of 2: all_reduce_sum in a group of 2 (there rank 0) did not end within 60 s: "
            "another rank is gone, or does not make the same calls");
  EXPECT_EQ(answers[0].code(), StatusCode::kDeadlineExceeded);
  for (int r = 0; r < 2; ++r) expect_told(r, answers[size_t(r)]);
  EXPECT_EQ(complaints(nccl), "");
}

TEST_F(NcclFailures, AnErrorThatComesLater) {
  FakeNccl nccl([](const FakeNccl::Call& call) {
    return call.rank == 0 && call.number == 5 ? Fault::kAsyncError : Fault::kNone;
  });
  nccl.tell_others_of_aborts();
  const auto answers = run(2, nccl, sums_until_failure);
  for (int r = 0; r < 2; ++r) {
    EXPECT_EQ(answers[size_t(r)].code(), StatusCode::kUnavailable);
    expect_told(r, answers[size_t(r)]);
  }
  EXPECT_EQ(complaints(nccl), "");
}

// All ranks stand in Device::synchronize(), behind work that never ends: the watchdog wakes them.
TEST_F(NcclFailures, WorkThatHangs) {
  FakeNccl nccl(
      [](const FakeNccl::Call& call) { return call.number == 3 ? Fault::kHang : Fault::kNone; });
  const auto answers = run(
      3, nccl,
      [](NcclTestRank& rank) -> Status {
        DeviceFloats x(rank.device, 1, 100);
        for (;;) {
          TRY(rank.world.all_reduce_sum(x.view()));
          TRY(rank.device.synchronize());
        }
      },
      [&] { nccl.wait_until_hung(3); });
  for (int r = 0; r < 3; ++r) {
    EXPECT_EQ(answers[size_t(r)].code(), StatusCode::kDeadlineExceeded);
    expect_told(r, answers[size_t(r)]);
  }
  EXPECT_EQ(complaints(nccl), "");
  EXPECT_EQ(nccl.aborted(), 3);
}

// The same in a graph that is launched: watch_queue() is what the watchdog knows of it.
TEST_F(NcclFailures, AGraphThatHangs) {
  FakeNccl nccl(
      [](const FakeNccl::Call& call) { return call.number == 1 ? Fault::kHang : Fault::kNone; });
  const auto answers = run(
      2, nccl,
      [](NcclTestRank& rank) -> Status {
        const auto queue = static_cast<cudaStream_t>(rank.device.queue());
        DeviceFloats x(rank.device, 1, 100);
        TRY(rank.world.all_reduce_sum(x.view()));
        EXPECT_EQ(cudaStreamBeginCapture(queue, cudaStreamCaptureModeThreadLocal), cudaSuccess);
        TRY(rank.world.all_reduce_sum(x.view()));
        cudaGraph_t graph = nullptr;
        EXPECT_EQ(cudaStreamEndCapture(queue, &graph), cudaSuccess);
        cudaGraphExec_t exec = nullptr;
        EXPECT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
        EXPECT_EQ(cudaGraphLaunch(exec, queue), cudaSuccess);
        TRY(rank.world.watch_queue("the recorded step"));
        TRY(rank.device.synchronize());
        EXPECT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
        EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
        return rank.world.status();
      },
      [&] { nccl.wait_until_hung(2); });
  for (int r = 0; r < 2; ++r) {
    EXPECT_NE(answers[size_t(r)].message().find("the recorded step"), std::string::npos)
        << answers[size_t(r)].message();
    expect_told(r, answers[size_t(r)]);
  }
  EXPECT_EQ(complaints(nccl), "");
}

TEST_F(NcclFailures, RanksThatDoNotFindOneAnother) {
  FakeNccl nccl([](const FakeNccl::Call& call) {
    return call.function == "init" && call.rank == 1 ? Fault::kHang : Fault::kNone;
  });
  const auto answers = run(2, nccl, sums_until_failure, [&] { nccl.wait_until_made(2); });
  for (int r = 0; r < 2; ++r) {
    EXPECT_EQ(answers[size_t(r)].code(), StatusCode::kDeadlineExceeded);
    EXPECT_NE(answers[size_t(r)].message().find("connecting in a group of 2"), std::string::npos);
    expect_told(r, answers[size_t(r)]);
  }
  EXPECT_EQ(complaints(nccl), "");
}

// Rank 1 cannot even begin to connect, so it is gone; rank 0 does not wait for it for ever.
TEST_F(NcclFailures, ARankThatCannotConnect) {
  FakeNccl nccl([](const FakeNccl::Call& call) {
    return call.function == "init" && call.rank == 1 ? Fault::kFail : Fault::kNone;
  });
  const auto answers = run(2, nccl, sums_until_failure, [&] {
    nccl.wait_until_made(1);
    while (told_[1].times == 0) std::this_thread::yield();
  });
  EXPECT_EQ(answers[1].code(), StatusCode::kUnavailable);
  EXPECT_EQ(answers[0].code(), StatusCode::kDeadlineExceeded);
  for (int r = 0; r < 2; ++r) expect_told(r, answers[size_t(r)]);
  EXPECT_EQ(complaints(nccl), "");
}

// Two things go wrong: the first one counts, and is told; the answer to both is the first.
TEST_F(NcclFailures, TheFirstFailureCounts) {
  FakeNccl nccl;
  const auto answers = run(1, nccl, [&](NcclTestRank& rank) -> Status {
    auto made = NcclRank::make(nccl.api(), rank.device, options(0), 0, 1);
    if (!made.ok()) return made.status();
    NcclRank& shared = **made;
    EXPECT_EQ(shared.fail(unavailable("the first")).message(), "the first");
    EXPECT_EQ(shared.fail(unavailable("the second")).message(), "the first");
    return shared.status();
  });
  expect_told(0, answers[0]);
}

// A peer that leaves between two collectives: the rank that waits in the device wakes.
TEST_F(NcclFailures, APeerThatLeaves) {
  FakeNccl nccl;
  const auto answers = run(
      2, nccl,
      [](NcclTestRank& rank) -> Status {
        DeviceFloats x(rank.device, 1, 100);
        const int sums = rank.world.rank() == 0 ? 3 : 2;
        for (int i = 0; i < sums; ++i) TRY(rank.world.all_reduce_sum(x.view()));
        TRY(rank.device.synchronize());
        return rank.world.status();
      },
      [&] { nccl.wait_until_gone(1); });
  EXPECT_TRUE(answers[1].ok()) << answers[1].message();
  EXPECT_EQ(told_[1].times, 0);
  EXPECT_EQ(answers[0].code(), StatusCode::kDeadlineExceeded);
  expect_told(0, answers[0]);
  EXPECT_EQ(complaints(nccl), "");
}

// A send that nobody receives is missed by its deadline while the sender lives, and does not keep
// the sender when it leaves.
TEST_F(NcclFailures, ASendThatNobodyReceives) {
  for (const bool patient : {false, true}) {
    told_[0].times = 0;
    work_deadline_ = patient ? std::chrono::hours(1 << 20) : milliseconds(kDeadline);
    FakeNccl nccl;
    const auto answers = run(
        2, nccl,
        [&](NcclTestRank& rank) -> Status {
          DeviceFloats x(rank.device, 1, 100);
          if (rank.world.rank() == 1) return rank.world.barrier();
          for (int i = 0; i < 3; ++i) TRY(rank.world.send(x.view(), 1));
          while (!patient && rank.world.status().ok()) std::this_thread::yield();
          Status status = rank.world.status();
          return status.ok() ? rank.world.barrier() : status;
        },
        [&] { nccl.wait_until_made(1); });
    EXPECT_EQ(answers[0].ok(), patient) << answers[0].message();
    if (!patient) {
      EXPECT_EQ(
          answers[0].message(),
          "rank 0 of 2: send to rank 1 in a group of 2 (there rank 0) did not end within 60 s: "
          "another rank is gone, or does not make the same calls");
      expect_told(0, answers[0]);
    }
    EXPECT_EQ(complaints(nccl), "");
    EXPECT_EQ(nccl.aborted(), 1);
  }
}

// Messages hang while ranks wait for them in the device, and while others are still to be sent.
TEST_F(NcclFailures, MessagesThatHang) {
  FakeNccl nccl([](const FakeNccl::Call& call) {
    return call.function == "send" && call.number == 2 ? Fault::kHang : Fault::kNone;
  });
  const auto answers = run(
      2, nccl,
      [](NcclTestRank& rank) -> Status {
        const int other = 1 - rank.world.rank();
        DeviceFloats x(rank.device, 1, 100), y(rank.device, 1, 100);
        for (int i = 0; i < 6; ++i) TRY(rank.world.send(x.view(), other));
        for (int i = 0; i < 6; ++i) TRY(rank.world.receive(y.view(), other));
        TRY(rank.device.synchronize());
        return rank.world.status();
      },
      [&] { nccl.wait_until_hung(4); });
  for (int r = 0; r < 2; ++r) {
    EXPECT_EQ(answers[size_t(r)].code(), StatusCode::kDeadlineExceeded);
    expect_told(r, answers[size_t(r)]);
  }
  EXPECT_EQ(complaints(nccl), "");
}

// One group of a 2 x 2 mesh fails: all groups of its ranks answer so, and their NCCL is aborted;
// the ranks of the other group are told when they wait for one of them.
TEST_F(NcclFailures, AFailureIsThatOfAllGroupsOfARank) {
  FakeNccl nccl([](const FakeNccl::Call& call) {
    return call.function == "broadcast" && call.rank == 1 ? Fault::kFail : Fault::kNone;
  });
  nccl.tell_others_of_aborts();
  const auto answers = run(4, nccl, [](NcclTestRank& rank) -> Status {
    const int stage = rank.world.rank() / 2, shard = rank.world.rank() % 2;
    auto shards = rank.world.split(stage, shard);
    if (!shards.ok()) return shards.status();
    auto stages = rank.world.split(shard, stage);
    if (!stages.ok()) return stages.status();
    DeviceFloats x(rank.device, 1, 100);
    TRY((*shards)->all_reduce_sum(x.view()));
    TRY((*stages)->all_reduce_sum(x.view()));
    TRY(rank.device.synchronize());
    TRY(rank.world.barrier());
    if (stage == 0) {
      const Status failure = (*shards)->broadcast(x.view(), 0);
      (void)rank.device.synchronize();
      while (rank.world.status().ok()) std::this_thread::yield();
      EXPECT_EQ((*stages)->all_reduce_sum(x.view()).message(), rank.world.status().message());
      EXPECT_TRUE(failure.ok() || failure.message() == rank.world.status().message());
    } else {
      (void)(*stages)->all_reduce_sum(x.view());
      (void)rank.device.synchronize();
      while (rank.world.status().ok()) std::this_thread::yield();
    }
    return rank.world.status();
  });
  for (int r = 0; r < 4; ++r) expect_told(r, answers[size_t(r)]);
  EXPECT_EQ(complaints(nccl), "");
  EXPECT_EQ(nccl.aborted(), 8);
}

}  // namespace
}  // namespace trireme
