#include "tests/support/nccl_gpus.h"

#include <thread>
#include <utility>

#include <fmt/format.h>

#include "comm/in_process/in_process.h"
#include "comm/nccl/device_communicator.h"
#include "comm/nccl/door.h"
#include "kernels/base/check.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/emulator/emulator.h"
#include "tests/comm/nccl/nccl_ranks.h"
#include "tests/support/cuda_gpu.h"

namespace trireme::test {
namespace {

Result<std::unique_ptr<Communicator>> over_nccl(Result<DeviceCommunicator> made) {
  if (!made.ok()) return made.status();
  if (made->nccl == nullptr && made->world->size() > 1) return unavailable(made->choice.why);
  return std::move(made->world);
}

class RealGpus final : public NcclGpus {
 public:
  RealGpus(CudaLibrary library, const NcclDoor& door, int count)
      : library_(std::move(library)), door_(door), count_(count) {}

  int count() const override { return count_; }
  Result<std::unique_ptr<Device>> make_device(int ordinal) override {
    return library_.plugin->make_device({ordinal});
  }
  Result<std::unique_ptr<Communicator>> make_world(std::unique_ptr<Communicator> control,
                                                   Device& device,
                                                   const NcclOptions& options) override {
    return over_nccl(door_.make(std::move(control), device, options));
  }

 private:
  const CudaLibrary library_;
  const NcclDoor& door_;
  const int count_;
};

class EmulatedGpus final : public NcclGpus {
 public:
  EmulatedGpus() { emulator::set_device_count(count()); }

  int count() const override { return 8; }
  Result<std::unique_ptr<Device>> make_device(int ordinal) override {
    emulator::set_streams_run_by_themselves(true);
    return make_cuda_device({ordinal});
  }
  Result<std::unique_ptr<Communicator>> make_world(std::unique_ptr<Communicator> control,
                                                   Device& device,
                                                   const NcclOptions& options) override {
    return over_nccl(make_device_communicator(std::move(control), device, &nccl_.api(), options));
  }
  std::string complaints() const override { return trireme::complaints(nccl_); }

 private:
  FakeNccl nccl_;
};

Status run_rank(NcclGpus& gpus, std::unique_ptr<Communicator> control, const NcclOptions& options,
                const std::function<Status(GpuRank&)>& body) {
  const auto device = gpus.make_device(options.ordinal);
  if (!device.ok()) return device.status();
  const auto world = gpus.make_world(std::move(control), **device, options);
  if (!world.ok()) return world.status();
  GpuRank rank{**world, **device};
  return body(rank);
}

}  // namespace

Result<std::unique_ptr<NcclGpus>> find_nccl_gpus() {
  Result<CudaLibrary> library = find_gpu();
  if (!library.ok()) return library.status();
  const Result<std::vector<GpuInfo>> gpus = library->plugin->gpus();
  if (!gpus.ok()) return gpus.status();
  if (gpus->size() < 2) return unavailable("NCCL needs two GPUs, this machine has one");
  const auto door = reinterpret_cast<NcclDoorFunction*>(library->symbol(kNcclDoorName));
  CHECK(door != nullptr) << library->path << " has no communicators";
  if (const Result<std::string> version = door()->version(); !version.ok()) return version.status();
  return std::unique_ptr<NcclGpus>(
      std::make_unique<RealGpus>(library.take(), *door(), static_cast<int>(gpus->size())));
}

std::unique_ptr<NcclGpus> emulate_nccl_gpus() { return std::make_unique<EmulatedGpus>(); }

std::vector<Status> run_gpu_ranks(NcclGpus& gpus, int size, const NcclOptions& options,
                                  const std::function<Status(GpuRank&)>& body) {
  CHECK(size <= gpus.count());
  auto controls = make_in_process_world(size);
  std::vector<Status> answers(controls.size());
  std::vector<std::thread> threads;
  for (size_t r = 0; r < controls.size(); ++r) {
    threads.emplace_back([&, r, mine = options, control = std::move(controls[r])]() mutable {
      mine.ordinal = static_cast<int>(r);
      answers[r] = run_rank(gpus, std::move(control), mine, body);
    });
  }
  for (std::thread& thread : threads) thread.join();
  return answers;
}

}  // namespace trireme::test
