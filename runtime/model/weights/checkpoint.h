// A checkpoint: the named tensors of one model, read-only. Weight loaders call it at start-up.
//
//   auto checkpoint = open_checkpoint("/models/Llama-3.1-8B");
//   auto up = matrix(**checkpoint, "model.layers.0.mlp.up_proj.weight", 14336, 4096);
//   pack(up->row_range(first, count));          // a rank's rows: only their pages are read
//   (*checkpoint)->done_with(name);             // once nothing points into it any more
//
// INVARIANT: immutable after open; every method may be called from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "kernels/base/status.h"
#include "kernels/base/tensor.h"
#include "runtime/model/weights/tensor_info.h"

namespace trireme {

class Checkpoint {
 public:
  virtual ~Checkpoint() = default;

  // What the user named: a file, a folder, "dummy weights".
  virtual std::string_view path() const = 0;

  // Sorted by name. References stay valid while the Checkpoint lives.
  virtual std::span<const TensorInfo> tensors() const = 0;

  // nullptr where there is no such tensor.
  const TensorInfo* find(std::string_view name) const;

  // The file that holds the tensor, for error messages. REQUIRES: `info` is of this checkpoint.
  virtual std::string_view path_of(const TensorInfo& info) const = 0;

  // The tensor's bytes, row after row, aligned for its element type. Of a file they are the mapped
  // pages themselves, which are read when they are touched; only where a file does not align its
  // tensors are they a copy. Valid until done_with(info), else while the Checkpoint lives.
  // REQUIRES: `info` is of this checkpoint.
  virtual Result<std::span<const std::byte>> bytes(const TensorInfo& info) const = 0;

  // A hint that this part of a tensor is read next: the kernel starts to read ahead.
  virtual void will_need(const ConstTensorView& slice) const;

  // The memory of the tensor may be given back. bytes() may be called again and gives the same.
  // REQUIRES: nothing uses a span or view of it any more, on any thread.
  virtual void done_with(const TensorInfo& info) const = 0;
};

// `path` is a .safetensors file, or a folder with model.safetensors, or with
// model.safetensors.index.json and the files it lists, or with exactly one *.safetensors.
// Errors name the file and the tensor.
Result<std::unique_ptr<Checkpoint>> open_checkpoint(const std::string& path);

// A floating-point tensor as a matrix [rows, cols]. Dimensions of 1 do not count on either side, so
// that RWKV's [1, 1, D] and a plain [D] are both a vector [1, D]. A rank takes row_range or
// col_range of it and touches the pages of that slice only.
// Errors: kNotFound where the tensor is missing; kInvalidArgument where its shape is another;
// kUnimplemented where its type is not F32, BF16 or F16.
Result<ConstTensorView> matrix(const Checkpoint& checkpoint, std::string_view name, int64_t rows,
                               int64_t cols);

}  // namespace trireme
