#include "comm/nccl/door.h"

namespace trireme {
namespace {

// Where a CUDA toolkit puts it, which the system's own places need not know.
const std::string kPlaces[] = {"/usr/local/cuda/lib64/libnccl.so.2"};

class Door final : public NcclDoor {
 public:
  Result<std::string> version() const override {
    const Result<NcclApi>& api = library();
    if (!api.ok()) return api.status();
    int number = 0;
    (void)api->get_version(&number);
    return "NCCL " + nccl_version_text(number);
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
