// libFuzzer target: any bytes as the pickle of a .pth file. Every element of what is accepted lies
// inside its storage (the address sanitizer sees one that does not).
//   ninja -C build/fuzz unpickler_fuzz
//   build/fuzz/tests/runtime/model/weights/unpickler_fuzz NEW_INPUTS seeds/unpickler
#include <cstdint>
#include <vector>

#include "kernels/base/check.h"
#include "runtime/model/weights/rwkv_pth.h"
#include "runtime/model/weights/unpickler.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace trireme;
  const auto tensors = unpickle_tensors({reinterpret_cast<const std::byte*>(data), size});
  if (!tensors.ok()) {
    CHECK(!tensors.status().message().empty());
    return 0;
  }
  constexpr int64_t kStorageElementsMax = 4096;  // larger ones would only make the fuzzer slow
  for (const PickledTensor& tensor : *tensors) {
    CHECK(tensor.stride.size() == tensor.info.shape.size());
    if (tensor.storage_elements > kStorageElementsMax) continue;
    const auto bits = static_cast<size_t>(find_safetensors_dtype(tensor.info.dtype_name)->bits);
    const std::vector<std::byte> storage(static_cast<size_t>(tensor.storage_elements) * bits / 8);
    CHECK(tensor.info.bytes <= storage.size());
    size_t got = 0;
    const Status read =
        read_elements({tensor, {"", storage, 0}}, [&](std::span<const std::byte> piece) {
          unsigned sum = 0;
          for (const std::byte b : piece) sum += static_cast<unsigned>(b);
          CHECK(sum == 0);
          got += piece.size();
          return Status();
        });
    CHECK(read.ok());
    CHECK(got == tensor.info.bytes);
  }
  return 0;
}
