// The tensors that a quantized matrix consists of, checked before anything of them is read. The
// methods' own (quantized_*.cc).
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/base/status.h"
#include "runtime/model/weights/checkpoint.h"

namespace trireme {

// A tensor of a checkpoint, aligned for its elements.
struct Part {
  const TensorInfo* info = nullptr;
  const std::byte* data = nullptr;
  std::string where;  // "model.safetensors: tensor 'x.qweight'", the start of a message about it

  const uint32_t* words() const { return reinterpret_cast<const uint32_t*>(data); }
};

// "model.layers.0.mlp.up_proj" of "model.layers.0.mlp.up_proj.weight"; empty where the name does
// not end like that.
std::string_view stem_of(std::string_view weight);

// Those of stem + ending that the checkpoint has, sorted.
std::vector<std::string> existing_parts(const Checkpoint& checkpoint, std::string_view stem,
                                        std::initializer_list<std::string_view> endings);

// "model.safetensors: tensor 'x.qweight'".
std::string part_where(const Checkpoint& checkpoint, const TensorInfo& info);

// Errors: kNotFound where it is missing, kInvalidArgument where its type is none of `dtypes`.
Result<const TensorInfo*> find_part(const Checkpoint& checkpoint, const std::string& name,
                                    std::initializer_list<std::string_view> dtypes);

// The same with its bytes; an error too where the shape is none of `shapes`. `because` says where
// they come from: "bits 4 and group_size 128".
// INVARIANT of what is returned: as many elements as the shape says lie at `data`.
Result<Part> read_part(const Checkpoint& checkpoint, const std::string& name,
                       std::initializer_list<std::string_view> dtypes,
                       const std::vector<std::vector<int64_t>>& shapes, std::string_view because);

// Which group each input belongs to, from a tensor of I32 [cols] whose numbers are below `groups`.
// Empty where input i is in group i / group, as it is where there is no such tensor.
// Errors: a number that is no group.
Result<std::vector<int32_t>> read_group_index(const Checkpoint& checkpoint, const std::string& name,
                                              int64_t cols, int64_t group, int64_t groups);

}  // namespace trireme
