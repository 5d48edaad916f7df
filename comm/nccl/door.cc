#include "comm/nccl/door.h"

#include <fmt/format.h>

namespace trireme {
namespace {

// Where a CUDA toolkit puts it, after the system's own places.
const std::string kPlaces[] = {"/usr/local/cuda/lib64/libnccl.so.2"};

class Door final : public NcclDoor {
 public:
  std::string version() const override {
    const Result<NcclApi>& api = library();
    if (!api.ok()) return api.status().message();
    int number = 0;
    (void)api->get_version(&number);
    return fmt::format("NCCL {}.{}.{}", number / 10000, number / 100 % 100, number % 100);
  }

  Result<DeviceCommunicator> make(std::unique_ptr<Communicator> control, Device& device,
                                  const NcclOptions& options) const override {
    const Result<NcclApi>& api = library();
    return make_device_communicator(std::move(control), device, api.ok() ? &*api : nullptr,
                                    options);
  }

 private:
  // Loaded where the first rank asks for it, and kept: 200 MB that a single GPU never needs.
  static const Result<NcclApi>& library() {
    static const Result<NcclApi> api = load_nccl(kPlaces);
    return api;
  }
};

}  // namespace
}  // namespace trireme

extern "C" __attribute__((visibility("default"))) const trireme::NcclDoor* trireme_nccl_door() {
  static const trireme::Door door;
  return &door;
}
