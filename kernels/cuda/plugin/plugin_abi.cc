#include "kernels/cuda/plugin/plugin.h"

namespace trireme {

const char* cuda_plugin_abi() { return TRIREME_PLUGIN_ABI; }

}  // namespace trireme
