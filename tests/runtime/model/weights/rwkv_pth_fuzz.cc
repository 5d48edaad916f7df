// libFuzzer target: any bytes as a .pth file, the ZIP archive first of all. Entries are views
// inside the file that do not meet.
//   ninja -C build/fuzz rwkv_pth_fuzz
//   build/fuzz/tests/runtime/model/weights/rwkv_pth_fuzz NEW_INPUTS seeds/rwkv_pth data
#include <cstdint>

#include "kernels/base/check.h"
#include "runtime/model/weights/rwkv_pth.h"
#include "runtime/model/weights/zip_reader.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace trireme;
  const std::span<const std::byte> file(reinterpret_cast<const std::byte*>(data), size);
  const Result<ZipReader> zip = ZipReader::open(file);
  const auto tensors = parse_pth(file);
  if (!zip.ok()) {
    CHECK(!tensors.ok());
    return 0;
  }
  size_t total = 0;
  for (const ZipEntry& entry : zip->entries()) {
    (void)check_crc(entry).ok();  // reads every byte
    total += entry.bytes.size();
    CHECK(zip->find(entry.name) == &entry);
  }
  CHECK(total <= size);
  if (!tensors.ok()) return 0;
  for (const PthTensor& t : *tensors) {
    size_t got = 0;
    CHECK(read_elements(t, [&](std::span<const std::byte> piece) {
            got += piece.size();
            return Status();
          }).ok());
    CHECK(got == t.tensor.info.bytes);
  }
  return 0;
}
