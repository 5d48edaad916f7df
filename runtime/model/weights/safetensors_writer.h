// Writes a safetensors file: used by `trireme convert` and by `score --logits`. One thread.
//
// The file appears under its name only when it is whole: it is written beside it and renamed, so a
// reader that has the old file mapped keeps the old bytes and a crash leaves no half file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/base/status.h"
#include "runtime/model/weights/tensor_info.h"

namespace trireme {

using SafetensorsMetadata = std::vector<std::pair<std::string, std::string>>;

class SafetensorsWriter {
 public:
  // Writes the header and reserves the space. The tensors lie in the file by falling alignment and
  // then by name, behind a header padded to 8 bytes, so that each one is aligned for its type.
  // Errors: a name twice, a name that is not UTF-8, a full disk, a folder that cannot be written.
  static Result<SafetensorsWriter> create(const std::string& path, std::vector<TensorInfo> tensors,
                                          const SafetensorsMetadata& metadata = {});

  SafetensorsWriter(SafetensorsWriter&& other) noexcept;
  SafetensorsWriter& operator=(SafetensorsWriter&&) = delete;
  ~SafetensorsWriter();  // without finish(), nothing is left behind

  // Puts the next bytes of one tensor; tensors may be written in any order and in pieces.
  // REQUIRES: the tensor is of this file and does not become longer than it was announced.
  Status append(std::string_view tensor, std::span<const std::byte> bytes);

  // REQUIRES: every tensor was written to its end.
  Status finish();

 private:
  struct Cursor {
    uint64_t next = 0;  // offsets in the file
    uint64_t end = 0;
  };
  SafetensorsWriter() = default;
  Status write_at(uint64_t offset, std::span<const std::byte> bytes);

  std::string path_;
  std::string partial_path_;
  int fd_ = -1;
  std::map<std::string, Cursor, std::less<>> cursors_;
};

struct TensorToWrite {
  TensorInfo info;
  std::span<const std::byte> bytes;  // REQUIRES: info.bytes of them
};

// The whole file at once.
Status write_safetensors(const std::string& path, std::span<const TensorToWrite> tensors,
                         const SafetensorsMetadata& metadata = {});

}  // namespace trireme
