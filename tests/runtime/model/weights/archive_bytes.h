// Builds ZIP archives and pickles byte by byte for tests, right or wrong on purpose.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <zlib.h>

namespace trireme {

template <class T>
std::string le(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

inline uint32_t crc_of(std::string_view data) {
  return static_cast<uint32_t>(
      crc32(0, reinterpret_cast<const Bytef*>(data.data()), static_cast<uInt>(data.size())));
}

// One entry and what its headers say; a test changes what it wants wrong.
struct ZipEntryBytes {
  ZipEntryBytes(std::string n, std::string d) : name(std::move(n)), data(std::move(d)) {
    local_name = name;
    crc = crc_of(data);
    bytes = stored_bytes = static_cast<uint32_t>(data.size());
  }
  std::string name, data;
  std::string local_name;  // in the local header
  uint32_t crc = 0;
  uint32_t bytes = 0, stored_bytes = 0;
  uint16_t flags = 0, method = 0;
  std::string extra;               // of the central directory
  std::string padding;             // extra field of the local header
  int64_t local_offset_shift = 0;  // what the directory says minus where it is
  bool zip64 = false;              // sizes and offset in the extra field
};

struct ZipBytes {
  std::vector<ZipEntryBytes> entries;
  std::string comment;
  bool zip64_end = false;
  uint16_t disk = 0;
  int entry_count_shift = 0;
  int64_t directory_offset_shift = 0;

  std::string build() const {
    std::string file, directory;
    for (const ZipEntryBytes& e : entries) {
      const auto offset =
          static_cast<uint64_t>(static_cast<int64_t>(file.size()) + e.local_offset_shift);
      file += le<uint32_t>(0x04034b50) + le<uint16_t>(20) + le(e.flags) + le(e.method) +
              le<uint32_t>(0) + le(e.crc) + le(e.stored_bytes) + le(e.bytes) +
              le(static_cast<uint16_t>(e.local_name.size())) +
              le(static_cast<uint16_t>(e.padding.size())) + e.local_name + e.padding + e.data;
      std::string extra = e.extra;
      if (e.zip64) {
        extra += le<uint16_t>(1) + le<uint16_t>(24) + le<uint64_t>(e.bytes) +
                 le<uint64_t>(e.stored_bytes) + le<uint64_t>(offset);
      }
      const uint32_t saturated = 0xffffffff;
      directory += le<uint32_t>(0x02014b50) + le<uint16_t>(20) + le<uint16_t>(20) + le(e.flags) +
                   le(e.method) + le<uint32_t>(0) + le(e.crc) +
                   le(e.zip64 ? saturated : e.stored_bytes) + le(e.zip64 ? saturated : e.bytes) +
                   le(static_cast<uint16_t>(e.name.size())) +
                   le(static_cast<uint16_t>(extra.size())) + le<uint16_t>(0) + le<uint16_t>(0) +
                   le<uint16_t>(0) + le<uint32_t>(0) +
                   le(e.zip64 ? saturated : static_cast<uint32_t>(offset)) + e.name + extra;
    }
    const uint64_t at = file.size() + static_cast<uint64_t>(directory_offset_shift);
    const auto count = static_cast<uint16_t>(static_cast<int>(entries.size()) + entry_count_shift);
    file += directory;
    if (zip64_end) {
      const uint64_t end64_at = file.size();
      file += le<uint32_t>(0x06064b50) + le<uint64_t>(44) + le<uint16_t>(45) + le<uint16_t>(45) +
              le<uint32_t>(disk) + le<uint32_t>(0) + le<uint64_t>(count) + le<uint64_t>(count) +
              le<uint64_t>(directory.size()) + le<uint64_t>(at);
      file += le<uint32_t>(0x07064b50) + le<uint32_t>(0) + le(end64_at) + le<uint32_t>(1);
    }
    file += le<uint32_t>(0x06054b50) + le(disk) + le<uint16_t>(0);
    file += zip64_end ? le<uint16_t>(0xffff) + le<uint16_t>(0xffff) + le<uint32_t>(0xffffffff) +
                            le<uint32_t>(0xffffffff)
                      : le(count) + le(count) + le(static_cast<uint32_t>(directory.size())) +
                            le(static_cast<uint32_t>(at));
    return file + le(static_cast<uint16_t>(comment.size())) + comment;
  }
};

// Pickle instructions, under pickletools' names.
namespace pickle {

inline std::string proto() { return "\x80\x02"; }
inline std::string stop() { return "."; }
inline std::string text(std::string_view s) {
  return "X" + le(static_cast<uint32_t>(s.size())) + std::string(s);
}
inline std::string integer(int32_t value) { return "J" + le(value); }
inline std::string global(std::string_view module, std::string_view name) {
  return "c" + std::string(module) + "\n" + std::string(name) + "\n";
}
inline std::string tuple(const std::vector<std::string>& items) {
  std::string bytes = "(";
  for (const std::string& item : items) bytes += item;
  return bytes + "t";
}
inline std::string counts(const std::vector<int32_t>& values) {
  std::vector<std::string> items;
  for (const int32_t value : values) items.push_back(integer(value));
  return tuple(items);
}
inline std::string ordered_dict() { return global("collections", "OrderedDict") + ")R"; }
inline std::string storage(std::string_view type, std::string_view key, int32_t elements) {
  return tuple(
             {text("storage"), global("torch", type), text(key), text("cpu"), integer(elements)}) +
         "Q";
}
inline std::string tensor(const std::string& storage, int32_t offset,
                          const std::vector<int32_t>& shape, const std::vector<int32_t>& stride) {
  return global("torch._utils", "_rebuild_tensor_v2") +
         tuple({storage, integer(offset), counts(shape), counts(stride), "\x89", ordered_dict()}) +
         "R";
}
// A dict of names and values, as a whole pickle.
inline std::string dict(const std::vector<std::pair<std::string, std::string>>& items) {
  std::string bytes = proto() + "}(";
  for (const auto& [name, value] : items) bytes += text(name) + value;
  return bytes + "u" + stop();
}

}  // namespace pickle

}  // namespace trireme
