// Reads the header of a safetensors file: 8 bytes N, N bytes of JSON, then the tensors' bytes.
// A pure function of the file's bytes, so that it can be fuzzed; called by checkpoint.cc and tests.
//
// Every rule of the reference reader (the safetensors crate, src/tensor.rs) holds of what is
// accepted, and two more: no tensor appears twice, and the header starts with '{'.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernels/base/status.h"
#include "runtime/model/weights/tensor_info.h"

namespace trireme {

inline constexpr size_t kSafetensorsHeaderBytesMax = 100'000'000;
inline constexpr size_t kTensorDimensionsMax = 64;

struct SafetensorsTensor {
  TensorInfo info;
  size_t offset = 0;  // of its first byte, from the start of the file
};

struct SafetensorsFile {
  std::vector<SafetensorsTensor> tensors;                     // sorted by name
  std::vector<std::pair<std::string, std::string>> metadata;  // "__metadata__", in file order
};

// INVARIANT of what is returned: offset + bytes <= file.size() for every tensor, and the tensors
// cover everything behind the header exactly once.
// Errors do not name the file: wrap them with Status::at(path).
Result<SafetensorsFile> parse_safetensors(std::span<const std::byte> file);

}  // namespace trireme
