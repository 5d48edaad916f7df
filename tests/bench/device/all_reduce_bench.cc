#include "tests/bench/device/all_reduce_bench.h"

#include <algorithm>
#include <functional>

#include "tests/bench/device/figures.h"

namespace trireme::bench {
namespace {

// The median over repetitions, of which each begins on all ranks together; the first two warm up.
Result<double> median_seconds(test::GpuRank& rank, int repetitions,
                              const std::function<Status()>& work) {
  std::vector<double> samples;
  for (int i = -2; i < repetitions; ++i) {
    if (Status s = rank.world.barrier(); !s.ok()) return s;
    const double begin = now_seconds();
    if (Status s = work(); !s.ok()) return s;
    if (Status s = rank.device.synchronize(); !s.ok()) return s;
    if (i >= 0) samples.push_back(now_seconds() - begin);
  }
  const auto middle = samples.begin() + static_cast<std::ptrdiff_t>(samples.size() / 2);
  std::nth_element(samples.begin(), middle, samples.end());
  return *middle;
}

Status measure(test::GpuRank& rank, int64_t bytes, const AllReducePlan& plan) {
  const auto floats = bytes / static_cast<int64_t>(sizeof(float));
  Result<Buffer> memory = rank.device.allocate(static_cast<size_t>(bytes));
  if (!memory.ok()) return memory.status();
  const TensorView x = tensor(memory->data(), 1, floats, DType::kF32, rank.device.place());
  const auto once = [&] { return rank.world.all_reduce_sum(x); };
  const auto step = [&]() -> Status {
    for (int i = 0; i < plan.calls; ++i)
      if (Status s = once(); !s.ok()) return s;
    return Status::ok_status();
  };
  const Result<double> alone = median_seconds(rank, plan.repetitions, once);
  if (!alone.ok()) return alone.status();
  const Result<double> plain = median_seconds(rank, plan.repetitions, step);
  if (!plain.ok()) return plain.status();
  const auto recording = rank.device.record(step);
  if (!recording.ok()) return recording.status();
  const Result<double> recorded = median_seconds(rank, plan.repetitions, [&] {
    rank.device.replay(**recording);
    return rank.world.queued_recording();
  });
  if (!recorded.ok()) return recorded.status();
  if (rank.world.rank() == 0) {
    print_figure({{"kind", "all_reduce"},
                  {"gpus", rank.world.size()},
                  {"bytes", bytes},
                  {"alone_seconds", *alone},
                  {"seconds", *plain / plan.calls},
                  {"recorded_seconds", *recorded / plan.calls}});
  }
  return rank.world.barrier();
}

}  // namespace

Status run_all_reduce(test::NcclGpus& gpus, int count, const AllReducePlan& plan) {
  const auto answers = test::run_gpu_ranks(gpus, count, {}, [&](test::GpuRank& rank) -> Status {
    for (const int64_t bytes : plan.bytes)
      if (Status s = measure(rank, bytes, plan); !s.ok()) return s;
    return Status::ok_status();
  });
  for (const Status& answer : answers)
    if (!answer.ok()) return answer;
  return Status::ok_status();
}

}  // namespace trireme::bench
