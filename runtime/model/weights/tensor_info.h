// What a checkpoint says about one tensor, and the element types that the safetensors format knows.
// A leaf: everything in this folder uses it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/base/dtype.h"
#include "kernels/base/status.h"

namespace trireme {

// An element type of the safetensors format. `dtype` is empty where no kernel of ours computes with
// it: such a tensor is validated and listed, and refused when it is read as a weight.
struct SafetensorsDType {
  std::string_view name;  // "BF16"
  int bits = 0;
  std::optional<DType> dtype;
};

// nullptr for a name that the format does not know.
const SafetensorsDType* find_safetensors_dtype(std::string_view name);

// The format's name of one of our types: "BF16" for DType::kBF16.
std::string_view safetensors_dtype_name(DType dtype);

struct TensorInfo {
  std::string name;
  std::string_view dtype_name;  // as safetensors spells it; static storage
  std::optional<DType> dtype;   // empty: listed only, never computed with
  std::vector<int64_t> shape;   // empty for a scalar
  size_t bytes = 0;
};

// The info of a tensor of one of our types, for writers and dummy weights.
// REQUIRES: no dimension is negative and the size fits 63 bits.
TensorInfo make_tensor_info(std::string name, DType dtype, std::vector<int64_t> shape);

// Bytes of a tensor; an error where the product overflows, or is no whole number of bytes (types of
// 4 and 6 bits). REQUIRES: no dimension is negative.
Result<size_t> tensor_bytes(const std::vector<int64_t>& shape, int bits);

// "[2048, 5632]".
std::string shape_text(const std::vector<int64_t>& shape);

// A name out of a file as an error message may show it: control bytes as \x0a, cut at 160 bytes.
std::string printable(std::string_view name);

}  // namespace trireme
