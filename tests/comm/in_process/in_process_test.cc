// What the contract suite cannot show: what happens to the others when a rank leaves, and that the
// step path does not allocate.
#include "comm/in_process/in_process.h"

#include <atomic>
#include <cstdlib>
#include <functional>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace {
std::atomic<int64_t> allocations{0};
}  // namespace

// Not inlined: gcc 12 would take malloc and delete for a mismatched pair.
[[gnu::noinline]] void* operator new(size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace trireme {
namespace {

using Call = std::function<Status(Communicator&)>;

// Every call that waits for rank 1.
std::vector<std::pair<std::string, Call>> calls_that_need_rank_1() {
  static float x[3 * 40000];  // read and written by nobody, since no call completes
  return {
      {"all_reduce_sum", [](Communicator& c) { return c.all_reduce_sum(tensor(x, 1, 10)); }},
      {"large all_reduce_sum",
       [](Communicator& c) { return c.all_reduce_sum(tensor(x, 3, 40000)); }},
      {"all_gather",
       [](Communicator& c) { return c.all_gather(tensor(x, 1, 5), tensor(x + 5, 3, 5)); }},
      {"broadcast", [](Communicator& c) { return c.broadcast(tensor(x, 1, 10), 0); }},
      {"receive", [](Communicator& c) { return c.receive(tensor(x, 1, 10), 1); }},
      {"barrier", [](Communicator& c) { return c.barrier(); }},
      {"split", [](Communicator& c) { return c.split(0, 0).status(); }},
  };
}

TEST(InProcess, ARankThatLeftBeforeIsUnavailable) {
  for (const auto& [name, call] : calls_that_need_rank_1()) {
    auto ranks = make_in_process_world(3);
    ranks[1].reset();
    const Status status = call(*ranks[0]);
    EXPECT_EQ(status.code(), StatusCode::kUnavailable) << name;
    EXPECT_NE(status.message().find("rank 1 of 3"), std::string::npos) << status.message();
    EXPECT_EQ(call(*ranks[0]).code(), StatusCode::kUnavailable) << name << ", again";
  }
}

// Ranks 0 and 2 wait (or are about to) when rank 1 leaves: both calls end, neither hangs.
TEST(InProcess, ARankThatLeavesWakesWhoWaits) {
  for (const auto& named_call : calls_that_need_rank_1()) {
    const auto& call = named_call.second;
    for (int i = 0; i < 20; ++i) {
      auto ranks = make_in_process_world(3);
      Status answers[2];
      std::thread zero([&] { answers[0] = call(*ranks[0]); });
      std::thread two([&] { answers[1] = call(*ranks[2]); });
      if (i % 2 == 0) std::this_thread::yield();
      ranks[1].reset();
      zero.join();
      two.join();
      for (const Status& answer : answers)
        EXPECT_EQ(answer.code(), StatusCode::kUnavailable) << named_call.first;
    }
  }
}

// A send that waits for room ends too; so does one that comes later.
TEST(InProcess, ASenderWithoutRoomIsWokenWhenTheReceiverLeaves) {
  auto ranks = make_in_process_world(2);
  std::vector<std::byte> bytes(size_t{40} << 20);
  const TensorView x = tensor(bytes.data(), 1, int64_t(bytes.size()), DType::kI8);
  ASSERT_TRUE(ranks[0]->send(x, 1).ok());
  Status second;
  std::thread sender([&] { second = ranks[0]->send(x, 1); });
  std::this_thread::yield();
  ranks[1].reset();
  sender.join();
  EXPECT_EQ(second.code(), StatusCode::kUnavailable);
  EXPECT_EQ(ranks[0]->send(x, 1).code(), StatusCode::kUnavailable);
}

// The bound: 64 messages of 1 MiB go without a receiver, the 65th waits until one is received. A
// sender that has no bound runs on while this thread yields.
TEST(InProcess, BytesUnderWayAreBounded) {
  constexpr int kMessages = 100, kUnderWayMax = 64;
  auto ranks = make_in_process_world(2);
  std::vector<std::byte> bytes(size_t{1} << 20), into(bytes.size());
  std::atomic<int> sent{0};
  std::thread sender([&] {
    for (; sent < kMessages; ++sent) {
      const TensorView x = tensor(bytes.data(), 1, int64_t(bytes.size()), DType::kI8);
      ASSERT_TRUE(ranks[0]->send(x, 1).ok());
    }
  });
  while (sent < kUnderWayMax) std::this_thread::yield();
  for (int i = 0; i < 200; ++i) std::this_thread::yield();
  EXPECT_EQ(sent, kUnderWayMax);
  for (int i = 0; i < kMessages; ++i) {
    const TensorView x = tensor(into.data(), 1, int64_t(into.size()), DType::kI8);
    EXPECT_LE(sent, kUnderWayMax + i);
    ASSERT_TRUE(ranks[1]->receive(x, 0).ok());
  }
  sender.join();
}

TEST(InProcess, MessagesSentBeforeLeavingArrive) {
  auto ranks = make_in_process_world(2);
  float x = 7;
  ASSERT_TRUE(ranks[0]->send(tensor(&x, 1, 1), 1).ok());
  x = 8;
  ASSERT_TRUE(ranks[0]->send(tensor(&x, 1, 1), 1).ok());
  ranks[0].reset();
  float y = 0;
  ASSERT_TRUE(ranks[1]->receive(tensor(&y, 1, 1), 0).ok());
  EXPECT_EQ(y, 7);
  ASSERT_TRUE(ranks[1]->receive(tensor(&y, 1, 1), 0).ok());
  EXPECT_EQ(y, 8);
  EXPECT_EQ(ranks[1]->receive(tensor(&y, 1, 1), 0).code(), StatusCode::kUnavailable);
}

// After the last common call ranks leave in any order, and nobody's last call fails for it.
TEST(InProcess, LeavingAfterTheLastCallFailsNobody) {
  for (int i = 0; i < 200; ++i) {
    auto ranks = make_in_process_world(3);
    std::vector<std::thread> threads;
    for (auto& rank : ranks) {
      threads.emplace_back([mine = std::move(rank)] {
        float x = 1;
        EXPECT_TRUE(mine->all_reduce_sum(tensor(&x, 1, 1)).ok());
        EXPECT_EQ(x, 3);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
}

TEST(InProcess, StepsDoNotAllocate) {
  constexpr int kRanks = 2;
  auto ranks = make_in_process_world(kRanks);
  std::vector<std::vector<float>> x(kRanks, std::vector<float>(300000)), y = x;
  int64_t before = 0, after = 0;
  std::vector<std::thread> threads;
  for (int r = 0; r < kRanks; ++r) {
    threads.emplace_back([&, r] {
      Communicator& mine = *ranks[size_t(r)];
      float* data = x[size_t(r)].data();
      const auto step = [&] {
        for (int64_t cols : {2048, 200000}) {
          ASSERT_TRUE(mine.all_reduce_sum(tensor(data, 1, cols)).ok());
          ASSERT_TRUE(mine.broadcast(tensor(data, 1, cols), 1).ok());
          ASSERT_TRUE(mine.send(tensor(data, 1, cols), 1 - r).ok());
          ASSERT_TRUE(mine.receive(tensor(data, 1, cols), 1 - r).ok());
        }
        ASSERT_TRUE(
            mine.all_gather(tensor(data, 1, 1000), tensor(y[size_t(r)].data(), kRanks, 1000)).ok());
        ASSERT_TRUE(mine.barrier().ok());
      };
      for (int i = 0; i < 4; ++i) step();
      if (r == 0) before = allocations.load();
      ASSERT_TRUE(mine.barrier().ok());
      for (int i = 0; i < 10; ++i) step();
      if (r == 0) after = allocations.load();
      ASSERT_TRUE(mine.barrier().ok());
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(after - before, 0);
}

}  // namespace
}  // namespace trireme
