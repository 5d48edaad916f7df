// RWKV checkpoints as BlinkDL releases them: .pth files, made by torch.save. They are converted
// once to safetensors, by `trireme convert rwkv-pth in.pth out.safetensors`, and never served
// directly.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "kernels/base/status.h"
#include "runtime/model/weights/unpickler.h"
#include "runtime/model/weights/zip_reader.h"

namespace trireme {

// One tensor of the file and the bytes of its storage, which may hold other tensors as well.
// INVARIANT: storage.bytes.size() == tensor.storage_elements * bytes of an element.
struct PthTensor {
  PickledTensor tensor;
  ZipEntry storage;
};

// A pure function of the file's bytes: the archive is checked and the pickle read. The checksums
// of the storages are not compared, as that reads them whole. Errors do not name the file.
Result<std::vector<PthTensor>> parse_pth(std::span<const std::byte> file);

// Hands the tensor's elements to `take` in the order of its shape, last index fastest, in as many
// pieces as it likes; stops at the first error and returns it.
using TakeBytes = std::function<Status(std::span<const std::byte>)>;
Status read_elements(const PthTensor& tensor, const TakeBytes& take);

// Writes every tensor of `in` to `out` under its own name, type and shape; tensors that are not
// contiguous become so. Nothing in `in` is executed. `out` appears only when it is whole.
Status convert_rwkv_pth(const std::string& in, const std::string& out);

}  // namespace trireme
