// Loaded into a program by the CUDA driver (CUDA_INJECTION64_PATH): writes each kernel's beginning
// and end, by the GPU's clock in nanoseconds, to $GPU_TIMELINE_OUT when the program ends: the
// newest $GPU_TIMELINE_KEEP of them.
//   begin,end,blocks,threads,registers,dynamic shared bytes,mangled name
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>
#include <vector>

#include <cupti.h>

namespace {

struct Kernel {
  uint64_t begin, end;
  int blocks, threads, registers, shared_bytes;
  std::string name;
};

std::mutex mutex;
std::vector<Kernel>& kernels() {
  static auto* all = new std::vector<Kernel>();  // outlives every other thread
  return *all;
}

void CUPTIAPI give_buffer(uint8_t** buffer, size_t* bytes, size_t* records_max) {
  *bytes = size_t{8} << 20;
  *buffer = static_cast<uint8_t*>(std::aligned_alloc(64, *bytes));
  *records_max = 0;  // as many as fit
}

void CUPTIAPI take_buffer(CUcontext, uint32_t, uint8_t* buffer, size_t, size_t valid_bytes) {
  const std::lock_guard<std::mutex> lock(mutex);
  CUpti_Activity* record = nullptr;
  while (cuptiActivityGetNextRecord(buffer, valid_bytes, &record) == CUPTI_SUCCESS) {
    if (record->kind != CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) continue;
    const auto* k = reinterpret_cast<const CUpti_ActivityKernel9*>(record);
    kernels().push_back({k->start, k->end, k->gridX * k->gridY * k->gridZ,
                         k->blockX * k->blockY * k->blockZ, k->registersPerThread,
                         k->dynamicSharedMemory, k->name != nullptr ? k->name : "?"});
  }
  std::free(buffer);
}

void write_all() {
  cuptiActivityFlushAll(1);
  const char* path = std::getenv("GPU_TIMELINE_OUT");
  const char* keep = std::getenv("GPU_TIMELINE_KEEP");
  std::FILE* file = path != nullptr ? std::fopen(path, "w") : nullptr;
  if (file == nullptr) return;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto& all = kernels();
  const size_t count = keep != nullptr ? std::strtoull(keep, nullptr, 10) : all.size();
  for (size_t i = all.size() > count ? all.size() - count : 0; i < all.size(); ++i) {
    const Kernel& k = all[i];
    std::fprintf(file, "%llu,%llu,%d,%d,%d,%d,%s\n", static_cast<unsigned long long>(k.begin),
                 static_cast<unsigned long long>(k.end), k.blocks, k.threads, k.registers,
                 k.shared_bytes, k.name.c_str());
  }
  std::fclose(file);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int InitializeInjection() {
  if (cuptiActivityRegisterCallbacks(give_buffer, take_buffer) != CUPTI_SUCCESS ||
      cuptiActivityEnable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) != CUPTI_SUCCESS) {
    std::fputs("gpu_timeline: CUPTI does not record kernels here\n", stderr);
    return 0;
  }
  kernels();
  std::atexit(write_all);
  return 1;
}
