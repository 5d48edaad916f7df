// libFuzzer target: any bytes as a safetensors file. What is accepted keeps the promise of
// safetensors.h: the tensors tile everything behind the header.
//   ninja -C build/fuzz safetensors_fuzz
//   build/fuzz/tests/runtime/model/weights/safetensors_fuzz NEW_INPUTS seeds/safetensors
#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "kernels/base/check.h"
#include "runtime/model/weights/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace trireme;
  const Result<SafetensorsFile> file =
      parse_safetensors({reinterpret_cast<const std::byte*>(data), size});
  if (!file.ok()) {
    CHECK(!file.status().message().empty());
    return 0;
  }
  std::vector<std::pair<size_t, size_t>> extents;
  size_t covered = 0;
  for (size_t i = 0; i < file->tensors.size(); ++i) {
    const SafetensorsTensor& t = file->tensors[i];
    CHECK(i == 0 || file->tensors[i - 1].info.name < t.info.name);
    CHECK(t.offset <= size && t.info.bytes <= size - t.offset);
    if (t.info.bytes > 0) extents.emplace_back(t.offset, t.offset + t.info.bytes);
    covered += t.info.bytes;
  }
  std::sort(extents.begin(), extents.end());
  for (size_t i = 1; i < extents.size(); ++i) CHECK(extents[i - 1].second == extents[i].first);
  if (!extents.empty()) CHECK(extents.back().second == size);
  CHECK(covered < size);
  return 0;
}
