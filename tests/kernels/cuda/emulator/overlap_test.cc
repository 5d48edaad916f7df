// Kernels that may begin before the ones before them have ended: on the emulator some of their
// blocks do, and see what a GPU might show them at worst.
#include <cstring>
#include <vector>

#include <cuda_runtime.h>
#include <gtest/gtest.h>

namespace trireme {
namespace {

using emulator::next_may_start;
using emulator::previous_done;

void put(int* to, int value) {
  next_may_start();
  previous_done();
  *to = value;
}
void put_without_a_word(int* to, int value) { *to = value; }
void wait_and_pass_on(const int* from, int* to) {
  next_may_start();
  previous_done();
  *to = *from;
}
void pass_on_at_once(const int* from, int* to) {
  next_may_start();
  const int value = *from;
  previous_done();
  *to = value;
}
void put_at_once(int* to, int value) {
  next_may_start();
  *to = value;
  previous_done();
}
void never_wait(int* to) {
  next_may_start();
  *to = 1;
}
// Asks for the copy before it waits, and looks at it afterwards.
void copy_at_once(const int* from, int* to) {
  next_may_start();
  emulator::async_copy(emulator::dynamic_shared(), from, 16);
  emulator::async_commit();
  previous_done();
  emulator::async_wait(0);
  *to = *static_cast<const int*>(emulator::dynamic_shared());
}
// Half of the block goes ahead to the barrier, where it meets the others when they have waited.
void wait_by_halves(const int* from, int* to) {
  next_may_start();
  auto* shared = static_cast<int*>(emulator::dynamic_shared());
  const bool waits = threadIdx.x >= blockDim.x / 2;
  if (waits) previous_done();
  if (waits) shared[threadIdx.x - blockDim.x / 2] = *from;
  __syncthreads();
  if (!waits) to[threadIdx.x] = shared[threadIdx.x];
}

class Overlap : public testing::Test {
 protected:
  static constexpr int kNumbers = 64;

  Overlap() {
    EXPECT_EQ(cudaMalloc(reinterpret_cast<void**>(&numbers_), kNumbers * sizeof(int)), cudaSuccess);
    EXPECT_EQ(cudaMalloc(reinterpret_cast<void**>(&results_), kNumbers * sizeof(int)), cudaSuccess);
    EXPECT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
    EXPECT_EQ(cudaMemsetAsync(numbers_, 0, kNumbers * sizeof(int), stream_), cudaSuccess);
  }
  ~Overlap() override {
    EXPECT_EQ(cudaStreamDestroy(stream_), cudaSuccess);
    EXPECT_EQ(cudaFree(numbers_), cudaSuccess);
    EXPECT_EQ(cudaFree(results_), cudaSuccess);
  }

  template <class... P, class... A>
  void queue(bool overlaps, unsigned threads, void (*kernel)(P...), A... args) {
    cudaLaunchAttribute overlap{};
    overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    overlap.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config{};
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = kNumbers * sizeof(int);
    config.stream = stream_;
    config.attrs = &overlap;
    config.numAttrs = overlaps ? 1 : 0;
    EXPECT_EQ(cudaLaunchKernelEx(&config, kernel, args...), cudaSuccess);
  }
  int result(int at = 0) {
    std::vector<int> host(kNumbers);
    EXPECT_EQ(
        cudaMemcpyAsync(host.data(), results_, kNumbers * sizeof(int), cudaMemcpyDefault, stream_),
        cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    return host[static_cast<size_t>(at)];
  }

  cudaStream_t stream_ = nullptr;
  int* numbers_ = nullptr;
  int* results_ = nullptr;
};

TEST_F(Overlap, WhoWaitsSeesTheKernelBefore) {
  queue(true, 1, put, numbers_, 7);
  queue(true, 1, wait_and_pass_on, numbers_, results_);
  EXPECT_EQ(result(), 7);
}

TEST_F(Overlap, WhoReadsAtOnceSeesWhatWasThereBefore) {
  queue(true, 1, put, numbers_, 7);
  queue(true, 1, pass_on_at_once, numbers_, results_);
  EXPECT_EQ(result(), 0);
}

TEST_F(Overlap, TheKernelBeforeLastMayStillRunToo) {
  queue(true, 1, put, numbers_, 7);
  for (int i = 1; i < 4; ++i) queue(true, 1, put, numbers_ + i, i);
  queue(true, 1, pass_on_at_once, numbers_, results_);
  EXPECT_EQ(result(), 0);
}

TEST_F(Overlap, CopiesReadWhenTheyAreAskedFor) {
  queue(true, 1, put, numbers_, 7);
  queue(true, 1, copy_at_once, numbers_, results_);
  EXPECT_EQ(result(), 0);
}

TEST_F(Overlap, WhoWritesAtOnceIsInTheWayOfTheKernelBefore) {
  queue(true, 1, wait_and_pass_on, numbers_, results_);
  queue(true, 1, put_at_once, numbers_, 7);
  EXPECT_EQ(result(), 7) << "though it was queued later";
}

TEST_F(Overlap, NoneBeginsBeforeAKernelThatDoesNotLetIt) {
  queue(false, 1, put_without_a_word, numbers_, 7);
  queue(true, 1, pass_on_at_once, numbers_, results_);
  EXPECT_EQ(result(), 7);
}

TEST_F(Overlap, NoneBeginsEarlyThatDoesNotSayIt) {
  queue(true, 1, put, numbers_, 7);
  queue(false, 1, pass_on_at_once, numbers_, results_);
  EXPECT_EQ(result(), 7);
}

TEST_F(Overlap, WhatCopiesWroteMayBeReadAtOnce) {
  const std::vector<int> host(kNumbers, 5);
  queue(true, 1, put, numbers_ + 1, 7);
  EXPECT_EQ(
      cudaMemcpyAsync(numbers_, host.data(), kNumbers * sizeof(int), cudaMemcpyDefault, stream_),
      cudaSuccess);
  queue(true, 1, put, numbers_ + 2, 7);
  queue(true, 1, pass_on_at_once, numbers_, results_);
  EXPECT_EQ(result(), 5);
}

TEST_F(Overlap, AGraphBeginsWhenAllBeforeItHasEnded) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  queue(true, 1, pass_on_at_once, numbers_, results_);      // waits for the graph's start
  queue(true, 1, pass_on_at_once, results_, results_ + 1);  // does not
  ASSERT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&exec, graph), cudaSuccess);
  EXPECT_EQ(cudaMemsetAsync(results_, 0, kNumbers * sizeof(int), stream_), cudaSuccess);
  queue(true, 1, put, numbers_, 7);
  EXPECT_EQ(cudaGraphLaunch(exec, stream_), cudaSuccess);
  EXPECT_EQ(result(0), 7);
  EXPECT_EQ(result(1), 0);
  EXPECT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
}

TEST_F(Overlap, ThreadsOfABlockWaitEachForThemselves) {
  queue(true, 1, put, numbers_, 7);
  queue(true, 64, wait_by_halves, numbers_, results_);
  for (int i = 0; i < 32; ++i) EXPECT_EQ(result(i), 7);
}

using OverlapDeath = Overlap;

TEST_F(OverlapDeath, AKernelOfWhichNobodyWaits) {
  EXPECT_DEATH(
      {
        queue(true, 1, put, numbers_, 7);
        queue(true, 1, never_wait, results_);
        cudaStreamSynchronize(stream_);
      },
      "no thread waits for it");
}

}  // namespace
}  // namespace trireme
