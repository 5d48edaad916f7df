#include "tests/comm/nccl/nccl_ranks.h"

#include <thread>
#include <utility>

#include <fmt/format.h>

#include "comm/in_process/in_process.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/emulator/emulator.h"

namespace trireme {
namespace {

Status run_rank(std::unique_ptr<Communicator> control, const FakeNccl& nccl,
                const NcclOptions& options, const std::function<Status(NcclTestRank&)>& body) {
  emulator::set_streams_run_by_themselves(true);
  CudaOptions gpu;
  gpu.ordinal = options.ordinal;
  auto device = make_cuda_device(gpu);
  if (!device.ok()) return device.status();
  auto world = make_nccl_communicator(std::move(control), **device, nccl.api(), options);
  if (!world.ok()) return world.status();
  NcclTestRank rank{**world, **device};
  return body(rank);
}

}  // namespace

std::vector<Status> run_nccl_ranks(int size, const FakeNccl& nccl,
                                   const std::function<NcclOptions(int rank)>& options,
                                   const std::function<Status(NcclTestRank&)>& body,
                                   const std::function<void(const std::atomic<bool>&)>& meanwhile) {
  emulator::set_device_count(8);
  auto controls = make_in_process_world(size);
  std::vector<Status> answers(controls.size());
  std::atomic<int> ended{0};
  std::atomic<bool> over{false};
  std::vector<std::thread> threads;
  for (size_t r = 0; r < controls.size(); ++r) {
    threads.emplace_back([&, r] {
      NcclOptions mine = options(static_cast<int>(r));
      mine.ordinal = static_cast<int>(r);
      answers[r] = run_rank(std::move(controls[r]), nccl, mine, body);
      over = ++ended == size;
    });
  }
  if (meanwhile) meanwhile(over);
  for (std::thread& thread : threads) thread.join();
  return answers;
}

std::string complaints(const FakeNccl& nccl) {
  std::string text;
  for (const std::string& violation : nccl.violations()) text += violation + "\n";
  if (nccl.open() > 0) text += fmt::format("{} communicators were never given back\n", nccl.open());
  return text;
}

DeviceFloats::DeviceFloats(Device& device, int64_t rows, int64_t cols, int64_t gap)
    : device_(device),
      rows_(rows),
      cols_(cols),
      gap_(gap),
      memory_(device.allocate(static_cast<size_t>(rows * (cols + gap)) * sizeof(float)).take()) {}

TensorView DeviceFloats::view() const {
  return {memory_.data(), rows_, cols_, cols_ + gap_, DType::kF32, device_.place()};
}

void DeviceFloats::set(float first) {
  sources_.emplace_back(static_cast<size_t>(rows_ * (cols_ + gap_)), -1.0f);
  std::vector<float>& values = sources_.back();
  for (int64_t r = 0; r < rows_; ++r)
    for (int64_t c = 0; c < cols_; ++c)
      values[static_cast<size_t>(r * (cols_ + gap_) + c)] =
          first + static_cast<float>(r * cols_ + c);
  device_.copy(memory_.data(), values.data(), values.size() * sizeof(float));
}

Result<std::vector<float>> DeviceFloats::get() {
  std::vector<float> all(static_cast<size_t>(rows_ * (cols_ + gap_)));
  device_.copy(all.data(), memory_.data(), all.size() * sizeof(float));
  if (Status s = device_.synchronize(); !s.ok()) return s;
  sources_.clear();
  std::vector<float> values;
  for (int64_t r = 0; r < rows_; ++r) {
    const auto row = all.begin() + static_cast<std::ptrdiff_t>(r * (cols_ + gap_));
    values.insert(values.end(), row, row + static_cast<std::ptrdiff_t>(cols_));
  }
  return values;
}

}  // namespace trireme
