// A GPU as a Device: its memory, its stream, its ops.
//
// Who calls it: the plug-in's door (door.cc), and tests over the emulated runtime. One thread at
// a time, always the same one: CUDA's current device belongs to the thread.
#pragma once

#include <memory>

#include "kernels/cuda/plugin/plugin.h"
#include "kernels/device.h"

namespace trireme {

// As CudaPlugin::make_device says.
Result<std::unique_ptr<Device>> make_cuda_device(const CudaOptions& options);

// As CudaPlugin::gpus says.
Result<std::vector<GpuInfo>> list_gpus();

}  // namespace trireme
