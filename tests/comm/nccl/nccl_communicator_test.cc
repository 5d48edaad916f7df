// What the contract suite cannot show of NCCL's communicator: which NCCL communicators it makes,
// how its work is ordered with the device's, recording, registration.
#include "comm/nccl/nccl_communicator.h"

#include <atomic>
#include <thread>

#include <cuda_runtime.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "kernels/cuda/emulator/memory.h"
#include "tests/comm/nccl/nccl_ranks.h"

#define TRY(expression) \
  if (Status try_status = (expression); !try_status.ok()) return try_status

namespace trireme {
namespace {

NcclOptions patient(int) {
  NcclOptions options;
  options.finish_deadline = std::chrono::seconds(20);
  return options;
}

void expect_all_ok(const std::vector<Status>& answers, const FakeNccl& nccl) {
  for (size_t r = 0; r < answers.size(); ++r)
    EXPECT_TRUE(answers[r].ok()) << "rank " << r << ": " << answers[r].message();
  EXPECT_EQ(complaints(nccl), "");
  EXPECT_EQ(nccl.aborted(), 0);
}

// The floats are first, first + step, ...
Status are(const Result<std::vector<float>>& values, float first, float step) {
  if (!values.ok()) return values.status();
  for (size_t i = 0; i < values->size(); ++i) {
    const float want = first + step * static_cast<float>(i);
    if ((*values)[i] != want)
      return data_loss(fmt::format("float {} is {}, expected {}", i, (*values)[i], want));
  }
  return {};
}

// A mesh of 2 stages x 2 shards, one step of a pipeline: an all-reduce of each stage's shards, and
// a message from each shard to its own of the next stage. That is a communicator for each stage and
// one for each edge, and none for the world, for the stages as a group, or for the ways back.
TEST(NcclCommunicator, OneForEachGroupAndOneForEachEdge) {
  FakeNccl nccl;
  const auto answers = run_nccl_ranks(4, nccl, patient, [&](NcclTestRank& rank) -> Status {
    const int stage = rank.world.rank() / 2, shard = rank.world.rank() % 2;
    auto shards = rank.world.split(stage, shard);
    if (!shards.ok()) return shards.status();
    auto stages = rank.world.split(shard, stage);
    if (!stages.ok()) return stages.status();
    DeviceFloats x(rank.device, 3, 40);
    for (int step = 0; step < 5; ++step) {
      if (stage == 1) TRY((*stages)->receive(x.view(), 0));
      if (stage == 0) x.set(float(step));
      TRY((*shards)->all_reduce_sum(x.view()));
      if (stage == 0) TRY((*stages)->send(x.view(), 1));
      if (stage == 1) TRY(are(x.get(), 4 * float(step), 4));
    }
    return rank.world.barrier();
  });
  expect_all_ok(answers, nccl);
  EXPECT_EQ(nccl.made(), 2 * 2 + 2 * 2);
}

// Tensors of the host go to the control communicator, and nothing leaves a world of one.
TEST(NcclCommunicator, NoneForTheHostsTensorsOrForOneRank) {
  for (const int size : {1, 2}) {
    FakeNccl nccl;
    const auto answers = run_nccl_ranks(size, nccl, patient, [&](NcclTestRank& rank) -> Status {
      float on_host[] = {1, 2};
      TRY(rank.world.all_reduce_sum(tensor(on_host, 1, 2, DType::kF32)));
      EXPECT_EQ(on_host[1], 2 * float(size));
      if (size > 1) return {};
      DeviceFloats x(rank.device, 2, 30, 5);
      x.set(3);
      TRY(rank.world.all_reduce_sum(x.view()));
      TRY(rank.world.broadcast(x.view(), 0));
      return are(x.get(), 3, 1);
    });
    expect_all_ok(answers, nccl);
    EXPECT_EQ(nccl.made(), 0);
  }
}

// Both neighbours send first, more than NCCL may buffer, and write over what they sent at once. The
// receives are queued behind; nobody waits for the device until the end. In the second round the
// edges are connected, and slots are used again.
TEST(NcclCommunicator, BothSendFirstAndOverwrite) {
  constexpr int kMessages = 12;
  FakeNccl nccl;
  const auto answers = run_nccl_ranks(2, nccl, patient, [&](NcclTestRank& rank) -> Status {
    const int me = rank.world.rank(), other = 1 - me;
    DeviceFloats out(rank.device, 100, 1000, 7);
    std::vector<std::unique_ptr<DeviceFloats>> in;
    for (int i = 0; i < kMessages; ++i)
      in.push_back(std::make_unique<DeviceFloats>(rank.device, 100, 1000, 3 * (i % 2)));
    for (int round = 0; round < 2; ++round) {
      for (int i = 0; i < kMessages; ++i) {
        out.set(float(1000 * me + i));
        TRY(rank.world.send(out.view(), other));
        out.set(-5);
      }
      TRY(rank.device.synchronize());  // no receive has been called yet
      TRY(rank.world.barrier());
      for (int i = 0; i < kMessages; ++i) TRY(rank.world.receive(in[size_t(i)]->view(), other));
      for (int i = 0; i < kMessages; ++i)
        TRY(are(in[size_t(i)]->get(), float(1000 * other + i), 1));
    }
    return {};
  });
  expect_all_ok(answers, nccl);
}

// A send takes its tensor when the queue has come so far, not before: the queue stands at a gate,
// the tensor is written behind it.
TEST(NcclCommunicator, ASendWaitsForItsTensor) {
  FakeNccl nccl;
  const auto answers = run_nccl_ranks(2, nccl, patient, [&](NcclTestRank& rank) -> Status {
    DeviceFloats x(rank.device, 1, 1000);
    x.set(1);
    if (rank.world.rank() == 1) {
      for (int i = 0; i < 2; ++i) TRY(rank.world.receive(x.view(), 0));
      return are(x.get(), 7, 1);
    }
    TRY(rank.world.send(x.view(), 1));
    TRY(rank.device.synchronize());
    std::atomic<bool> open{false};
    const auto gate = [](void* opened) {
      while (!*static_cast<std::atomic<bool>*>(opened)) std::this_thread::yield();
    };
    EXPECT_EQ(cudaLaunchHostFunc(static_cast<cudaStream_t>(rank.device.queue()), gate, &open),
              cudaSuccess);
    x.set(7);
    const Status sent = rank.world.send(x.view(), 1);
    // Time for a send that does not wait: where there is none, it goes unnoticed.
    for (int i = 0; i < 5000; ++i) std::this_thread::yield();
    open = true;
    TRY(rank.device.synchronize());
    return sent;
  });
  expect_all_ok(answers, nccl);
}

// What was sent before its sender left arrives, although the receiver comes late.
TEST(NcclCommunicator, WhatWasSentBeforeLeavingArrives) {
  FakeNccl nccl;
  const auto answers = run_nccl_ranks(2, nccl, patient, [&](NcclTestRank& rank) -> Status {
    DeviceFloats x(rank.device, 1, 1000);
    if (rank.world.rank() == 0) {
      for (int i = 0; i < 3; ++i) {
        x.set(float(i));
        TRY(rank.world.send(x.view(), 1));
      }
      return {};  // and leaves
    }
    for (int i = 0; i < 3; ++i) {
      TRY(rank.world.receive(x.view(), 0));
      TRY(are(x.get(), float(i), 1));
    }
    return {};
  });
  expect_all_ok(answers, nccl);
}

// Collectives stand in the device's queue like ops: each sees what was queued before it.
TEST(NcclCommunicator, CollectivesAreQueuedInOrder) {
  FakeNccl nccl;
  const auto answers = run_nccl_ranks(3, nccl, patient, [&](NcclTestRank& rank) -> Status {
    const int me = rank.world.rank();
    DeviceFloats x(rank.device, 4, 50, 6), all(rank.device, 12, 50);
    for (int i = 0; i < 10; ++i) {
      x.set(float(me));                                  // me
      TRY(rank.world.all_reduce_sum(x.view()));          // 0 + 1 + 2, and 3 times the index
      TRY(rank.world.all_gather(x.view(), all.view()));  // three times over
      if (me == 2) all.set(100);
      TRY(rank.world.broadcast(all.view(), 2));
      TRY(are(all.get(), 100, 1));
      TRY(are(x.get(), 3, 3));
    }
    return {};
  });
  expect_all_ok(answers, nccl);
  EXPECT_EQ(nccl.made(), 3);
}

// Recorded once and launched again and again: strided and not, all three collectives.
TEST(NcclCommunicator, CollectivesAreRecorded) {
  FakeNccl nccl;
  const auto answers = run_nccl_ranks(2, nccl, patient, [&](NcclTestRank& rank) -> Status {
    EXPECT_TRUE(rank.world.capturable());
    const auto queue = static_cast<cudaStream_t>(rank.device.queue());
    DeviceFloats x(rank.device, 2, 30), strided(rank.device, 2, 30, 5), all(rank.device, 4, 30, 1);
    const auto step = [&]() -> Status {
      TRY(rank.world.all_reduce_sum(x.view()));
      TRY(rank.world.all_reduce_sum(strided.view()));
      TRY(rank.world.all_gather(strided.view(), all.view()));
      return rank.world.broadcast(all.view(), 1);
    };
    TRY(step());  // makes the communicator, and room for strided tensors
    EXPECT_EQ(cudaStreamBeginCapture(queue, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    TRY(step());
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(cudaStreamEndCapture(queue, &graph), cudaSuccess);
    cudaGraphExec_t exec = nullptr;
    EXPECT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
    for (int i = 1; i < 4; ++i) {
      x.set(float(i));
      strided.set(float(10 * i));
      EXPECT_EQ(cudaGraphLaunch(exec, queue), cudaSuccess);
      TRY(rank.world.watch_queue("step"));
      TRY(are(x.get(), 2 * float(i), 2));
      TRY(are(strided.get(), 20 * float(i), 2));
      const auto rows = all.get();
      if (!rows.ok()) return rows.status();
      EXPECT_EQ(rows->front(), 20 * float(i));
      EXPECT_EQ((*rows)[60], 20 * float(i));
    }
    EXPECT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
    return rank.world.barrier();
  });
  expect_all_ok(answers, nccl);
}

// A recorded step may not allocate: a tensor that needs more room than any before is refused.
TEST(NcclCommunicator, RecordedStepsDoNotAllocate) {
  FakeNccl nccl;
  const auto answers = run_nccl_ranks(2, nccl, patient, [&](NcclTestRank& rank) -> Status {
    const auto queue = static_cast<cudaStream_t>(rank.device.queue());
    DeviceFloats small(rank.device, 2, 30, 5), large(rank.device, 200, 3000, 5);
    TRY(rank.world.all_reduce_sum(small.view()));
    EXPECT_EQ(cudaStreamBeginCapture(queue, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    const Status refused = rank.world.all_reduce_sum(large.view());
    EXPECT_EQ(refused.code(), StatusCode::kUnavailable) << refused.message();
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(cudaStreamEndCapture(queue, &graph), cudaSuccess);  // and the recording is not spoilt
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
    return {};
  });
  expect_all_ok(answers, nccl);
}

// After the first use of a size nothing is allocated on the device.
TEST(NcclCommunicator, StepsDoNotAllocateDeviceMemory) {
  FakeNccl nccl;
  size_t before = 0, after = 0;
  const auto answers = run_nccl_ranks(2, nccl, patient, [&](NcclTestRank& rank) -> Status {
    DeviceFloats x(rank.device, 8, 5000, 2);
    const auto step = [&]() -> Status {
      for (const int64_t rows : {8, 3, 5, 1}) {
        const TensorView part = x.view().row_range(0, rows);
        TRY(rank.world.all_reduce_sum(part));
        TRY(rank.world.send(part, 1 - rank.world.rank()));
        TRY(rank.world.receive(part, 1 - rank.world.rank()));
      }
      TRY(rank.device.synchronize());
      return rank.world.barrier();
    };
    // More messages under way than a step has: as many slots as it can ever want.
    for (int i = 0; i < 12; ++i) TRY(rank.world.send(x.view(), 1 - rank.world.rank()));
    for (int i = 0; i < 12; ++i) TRY(rank.world.receive(x.view(), 1 - rank.world.rank()));
    for (int i = 0; i < 3; ++i) TRY(step());
    if (rank.world.rank() == 0) before = emulator::device_bytes_used();
    for (int i = 0; i < 20; ++i) TRY(step());
    if (rank.world.rank() == 0) after = emulator::device_bytes_used();
    return rank.world.barrier();
  });
  expect_all_ok(answers, nccl);
  EXPECT_EQ(after, before);
}

TEST(NcclCommunicator, BuffersAreRegisteredAndGivenBack) {
  FakeNccl nccl;
  const auto answers = run_nccl_ranks(2, nccl, patient, [&](NcclTestRank& rank) -> Status {
    DeviceFloats x(rank.device, 1, 500), y(rank.device, 1, 500);
    TRY(rank.world.register_buffer(x.view().data, 2000));
    TRY(rank.world.register_buffer(y.view().data, 2000));
    x.set(1);
    TRY(rank.world.all_reduce_sum(x.view()));
    TRY(are(x.get(), 2, 2));
    rank.world.unregister_buffer(x.view().data);
    return rank.world.barrier();  // y is given back at the end
  });
  expect_all_ok(answers, nccl);
  EXPECT_EQ(nccl.registered(), 4);
}

// With more collectives queued than the watchdog keeps in mind, the host waits for the oldest.
TEST(NcclCommunicator, ADeepQueueIsWatchedWhole) {
  FakeNccl nccl;
  const auto answers = run_nccl_ranks(2, nccl, patient, [&](NcclTestRank& rank) -> Status {
    DeviceFloats x(rank.device, 1, 16);
    x.set(0);
    for (int i = 0; i < 1300; ++i) TRY(rank.world.broadcast(x.view(), i % 2));
    return are(x.get(), 0, 1);
  });
  expect_all_ok(answers, nccl);
}

}  // namespace
}  // namespace trireme
