// What the contract suite cannot show: that the device is waited for where it must be and nowhere
// else, and what happens when it, or a peer, fails.
#include "comm/staged/staged.h"

#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "comm/in_process/in_process.h"
#include "tests/support/queued_device.h"

namespace trireme {
namespace {

TensorView on_device(Buffer& buffer, int64_t cols) {
  return tensor(buffer.data(), 1, cols, DType::kF32, Place::kCuda);
}

TEST(Staged, OnlyAGroupOfOneMayBeRecorded) {
  QueuedDevice device;
  auto alone = make_staged_communicator(std::move(make_in_process_world(1)[0]), device);
  EXPECT_TRUE(alone->capturable());
  auto two = make_in_process_world(2);
  EXPECT_FALSE(make_staged_communicator(std::move(two[0]), device)->capturable());
}

// In a group of one the device is not waited for: gathering is a queued copy.
TEST(Staged, AGroupOfOneDoesNotWait) {
  QueuedDevice device;
  auto alone = make_staged_communicator(std::move(make_in_process_world(1)[0]), device);
  Buffer from = device.allocate(40).take(), to = device.allocate(40).take();
  static_cast<float*>(from.data())[9] = 7;
  ASSERT_TRUE(alone->all_reduce_sum(on_device(from, 10)).ok());
  ASSERT_TRUE(alone->broadcast(on_device(from, 10), 0).ok());
  ASSERT_TRUE(alone->all_gather(on_device(from, 10), on_device(to, 10)).ok());
  EXPECT_EQ(device.synchronizes(), 0);
  EXPECT_EQ(static_cast<float*>(to.data())[9], 0);
  ASSERT_TRUE(device.synchronize().ok());
  EXPECT_EQ(static_cast<float*>(to.data())[9], 7);
}

TEST(Staged, HostTensorsDoNotWaitForTheDevice) {
  auto ranks = make_in_process_world(2);
  std::vector<std::thread> threads;
  for (auto& inner : ranks) {
    threads.emplace_back([mine = std::move(inner)]() mutable {
      QueuedDevice device;
      auto rank = make_staged_communicator(std::move(mine), device);
      float x = 1;
      EXPECT_TRUE(rank->all_reduce_sum(tensor(&x, 1, 1)).ok());
      EXPECT_EQ(x, 2);
      EXPECT_EQ(device.synchronizes(), 0);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// A device that breaks down is this rank's answer; the others hear of it when the rank leaves.
TEST(Staged, ADeviceThatFailsIsTheAnswer) {
  auto ranks = make_in_process_world(2);
  Status other;
  std::thread peer([&other, mine = std::move(ranks[1])]() mutable {
    QueuedDevice device;
    auto rank = make_staged_communicator(std::move(mine), device);
    Buffer x = device.allocate(40).take();
    other = rank->all_reduce_sum(on_device(x, 10));
  });
  {
    QueuedDevice device;
    device.break_down(unavailable("the GPU has fallen off the bus"));
    auto rank = make_staged_communicator(std::move(ranks[0]), device);
    Buffer x = device.allocate(40).take();
    const Status status = rank->all_reduce_sum(on_device(x, 10));
    EXPECT_EQ(status.message(), "the GPU has fallen off the bus");
  }
  peer.join();
  EXPECT_EQ(other.code(), StatusCode::kUnavailable);
}

}  // namespace
}  // namespace trireme
