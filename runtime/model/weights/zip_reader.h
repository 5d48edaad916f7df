// Reads a ZIP archive whose entries are stored, not compressed, as torch.save writes them: with
// ZIP64 records, data descriptors and padding in front of each entry. From: PKWARE APPNOTE 6.3.10.
// A pure function of the file's bytes; entries are views into them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "kernels/base/status.h"

namespace trireme {

struct ZipEntry {
  std::string_view name;
  std::span<const std::byte> bytes;
  uint32_t crc32 = 0;  // as the archive says; verified by check_crc
};

class ZipReader {
 public:
  // REQUIRES: `file` outlives the reader.
  // INVARIANT of what is returned: names are distinct and no two entries share a byte.
  // Errors: anything that is cut short, overlaps, is compressed, encrypted or split over disks.
  // They do not name the file: wrap them with Status::at(path).
  static Result<ZipReader> open(std::span<const std::byte> file);

  std::span<const ZipEntry> entries() const { return entries_; }  // sorted by name
  const ZipEntry* find(std::string_view name) const;

 private:
  std::vector<ZipEntry> entries_;
};

// Reads the whole entry and compares its CRC-32.
Status check_crc(const ZipEntry& entry);

}  // namespace trireme
