#include "runtime/model/weights/zip_reader.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include <fmt/format.h>
#include <zlib.h>

#include "runtime/model/weights/tensor_info.h"

namespace trireme {
namespace {

using Bytes = std::span<const std::byte>;

constexpr uint32_t kEndSignature = 0x06054b50;
constexpr uint32_t kEnd64Signature = 0x06064b50;
constexpr uint32_t kEnd64LocatorSignature = 0x07064b50;
constexpr uint32_t kCentralSignature = 0x02014b50;
constexpr uint32_t kLocalSignature = 0x04034b50;
constexpr size_t kEndBytes = 22, kEnd64Bytes = 56, kEnd64LocatorBytes = 20;
constexpr size_t kCentralBytes = 46, kLocalBytes = 30;
constexpr size_t kEntriesMax = 1'000'000;
constexpr uint16_t kZip64Extra = 0x0001;

// REQUIRES: at + sizeof(T) <= bytes.size().
template <class T>
T read(Bytes bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

std::string_view text(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// bytes[at, at + count), or nothing where that is not inside.
std::optional<Bytes> slice(Bytes bytes, uint64_t at, uint64_t count) {
  if (at > bytes.size() || count > bytes.size() - at) return std::nullopt;
  return bytes.subspan(static_cast<size_t>(at), static_cast<size_t>(count));
}

// Where the central directory lies: entries and bytes of it.
struct Directory {
  uint64_t entries = 0;
  uint64_t bytes = 0;
  uint64_t offset = 0;
};

Result<Directory> read_end64(Bytes file, size_t end) {
  const Status damaged = data_loss("the archive's ZIP64 end record is damaged");
  if (end < kEnd64LocatorBytes) return damaged;
  const Bytes locator = file.subspan(end - kEnd64LocatorBytes, kEnd64LocatorBytes);
  if (read<uint32_t>(locator, 0) != kEnd64LocatorSignature) return damaged;
  const std::optional<Bytes> record = slice(file, read<uint64_t>(locator, 8), kEnd64Bytes);
  if (!record || read<uint32_t>(*record, 0) != kEnd64Signature) return damaged;
  if (read<uint32_t>(*record, 16) != 0 || read<uint32_t>(*record, 20) != 0 ||
      read<uint64_t>(*record, 24) != read<uint64_t>(*record, 32)) {
    return unimplemented("the archive is split over several disks; only whole ones are read");
  }
  return Directory{read<uint64_t>(*record, 32), read<uint64_t>(*record, 40),
                   read<uint64_t>(*record, 48)};
}

// The end record is the last thing in the file but for a comment, whose length must lead exactly to
// the end of the file.
Result<Directory> find_directory(Bytes file) {
  const size_t last = file.size() < kEndBytes ? 0 : file.size() - kEndBytes;
  const size_t first = last > 0xffff ? last - 0xffff : 0;
  for (size_t at = last + 1; file.size() >= kEndBytes && at-- > first;) {
    if (read<uint32_t>(file, at) != kEndSignature) continue;
    if (read<uint16_t>(file, at + 20) != file.size() - at - kEndBytes) continue;
    const Directory directory{read<uint16_t>(file, at + 10), read<uint32_t>(file, at + 12),
                              read<uint32_t>(file, at + 16)};
    if (directory.entries == 0xffff || directory.bytes == 0xffffffff ||
        directory.offset == 0xffffffff) {
      return read_end64(file, at);
    }
    if (read<uint16_t>(file, at + 4) != 0 || read<uint16_t>(file, at + 6) != 0 ||
        read<uint16_t>(file, at + 8) != directory.entries) {
      return unimplemented("the archive is split over several disks; only whole ones are read");
    }
    return directory;
  }
  return data_loss(
      "this is no ZIP archive, or it is cut short: no end record; a file from PyTorch before 1.6 "
      "has "
      "to be loaded and saved again with a newer one");
}

// An entry as the central directory tells it.
struct Central {
  std::string_view name;
  uint32_t crc32 = 0;
  uint64_t bytes = 0;
  uint64_t stored_bytes = 0;
  uint64_t local_offset = 0;
};

// Fields that did not fit 32 bits are in the ZIP64 extra field, in this order, those that did not
// fit only.
Status read_zip64_extra(Bytes extra, Central* entry) {
  while (extra.size() >= 4) {
    const auto id = read<uint16_t>(extra, 0);
    const std::optional<Bytes> body = slice(extra, 4, read<uint16_t>(extra, 2));
    if (!body) break;
    if (id == kZip64Extra) {
      size_t at = 0;
      for (uint64_t* field : {&entry->bytes, &entry->stored_bytes, &entry->local_offset}) {
        if (*field != 0xffffffff) continue;
        if (at + 8 > body->size()) break;
        *field = read<uint64_t>(*body, at);
        at += 8;
      }
      return {};
    }
    extra = extra.subspan(4 + body->size());
  }
  return data_loss(fmt::format("entry '{}' lacks its ZIP64 sizes", printable(entry->name)));
}

// Reads one record at the front of `directory` and moves behind it.
Result<Central> read_central(Bytes* directory) {
  const Status damaged = data_loss("the archive's directory is damaged");
  const Bytes d = *directory;
  if (d.size() < kCentralBytes || read<uint32_t>(d, 0) != kCentralSignature) return damaged;
  const size_t name_bytes = read<uint16_t>(d, 28);
  const size_t extra_bytes = read<uint16_t>(d, 30);
  const size_t comment_bytes = read<uint16_t>(d, 32);
  const std::optional<Bytes> variable =
      slice(d, kCentralBytes, name_bytes + extra_bytes + comment_bytes);
  if (!variable) return damaged;

  Central entry;
  entry.name = text(variable->first(name_bytes));
  const auto flags = read<uint16_t>(d, 8);
  const auto method = read<uint16_t>(d, 10);
  entry.crc32 = read<uint32_t>(d, 16);
  entry.stored_bytes = read<uint32_t>(d, 20);
  entry.bytes = read<uint32_t>(d, 24);
  entry.local_offset = read<uint32_t>(d, 42);
  if ((flags & 1) != 0)
    return unimplemented(fmt::format("entry '{}' is encrypted", printable(entry.name)));
  if (method != 0) {
    return unimplemented(fmt::format(
        "entry '{}' is compressed (method {}); torch.save does not compress, so this "
        "archive was packed by something else: unpack it, load it in PyTorch and save it",
        printable(entry.name), method));
  }
  if (entry.bytes == 0xffffffff || entry.stored_bytes == 0xffffffff ||
      entry.local_offset == 0xffffffff) {
    Status extra = read_zip64_extra(variable->subspan(name_bytes, extra_bytes), &entry);
    if (!extra.ok()) return extra;
  }
  if (entry.bytes != entry.stored_bytes)
    return data_loss(fmt::format("entry '{}' has two sizes", printable(entry.name)));
  *directory = d.subspan(kCentralBytes + variable->size());
  return entry;
}

// The bytes of the entry, behind its local header. `body` is the file in front of its directory.
Result<Bytes> entry_bytes(Bytes body, const Central& entry) {
  const std::optional<Bytes> header = slice(body, entry.local_offset, kLocalBytes);
  if (!header || read<uint32_t>(*header, 0) != kLocalSignature)
    return data_loss(fmt::format("entry '{}' has no local header", printable(entry.name)));
  const uint64_t name_at = entry.local_offset + kLocalBytes;
  const size_t name_bytes = read<uint16_t>(*header, 26);
  const std::optional<Bytes> name = slice(body, name_at, name_bytes);
  if (!name || text(*name) != entry.name)
    return data_loss(
        fmt::format("entry '{}' has another name in its local header", printable(entry.name)));
  const uint64_t data_at = name_at + name_bytes + read<uint16_t>(*header, 28);
  const std::optional<Bytes> bytes = slice(body, data_at, entry.bytes);
  if (!bytes)
    return data_loss(
        fmt::format("entry '{}' reaches out of the archive: it is cut short or damaged",
                    printable(entry.name)));
  return *bytes;
}

// From local header to last byte, no two entries meet.
Status check_disjoint(std::vector<std::pair<uint64_t, uint64_t>> extents) {
  std::sort(extents.begin(), extents.end());
  for (size_t i = 1; i < extents.size(); ++i) {
    if (extents[i].first < extents[i - 1].second)
      return data_loss("two entries of the archive share bytes: it is damaged");
  }
  return {};
}

}  // namespace

Result<ZipReader> ZipReader::open(Bytes file) {
  const Result<Directory> found = find_directory(file);
  if (!found.ok()) return found.status();
  std::optional<Bytes> directory = slice(file, found->offset, found->bytes);
  if (!directory) return data_loss("the archive's directory reaches behind the end of the file");
  if (found->entries > kEntriesMax || found->entries > found->bytes / kCentralBytes)
    return data_loss("the archive's directory is too small for its number of entries");

  ZipReader reader;
  std::vector<std::pair<uint64_t, uint64_t>> extents;
  const Bytes body = file.first(static_cast<size_t>(found->offset));
  for (uint64_t i = 0; i < found->entries; ++i) {
    const Result<Central> entry = read_central(&*directory);
    if (!entry.ok()) return entry.status();
    const Result<Bytes> bytes = entry_bytes(body, *entry);
    if (!bytes.ok()) return bytes.status();
    extents.emplace_back(entry->local_offset,
                         static_cast<uint64_t>(bytes->data() - file.data()) + bytes->size());
    reader.entries_.push_back({entry->name, *bytes, entry->crc32});
  }
  Status disjoint = check_disjoint(std::move(extents));
  if (!disjoint.ok()) return disjoint;
  auto& entries = reader.entries_;
  std::sort(entries.begin(), entries.end(),
            [](const ZipEntry& a, const ZipEntry& b) { return a.name < b.name; });
  for (size_t i = 1; i < entries.size(); ++i) {
    if (entries[i].name == entries[i - 1].name)
      return data_loss(fmt::format("entry '{}' is there twice", printable(entries[i].name)));
  }
  return reader;
}

const ZipEntry* ZipReader::find(std::string_view name) const {
  const auto at =
      std::lower_bound(entries_.begin(), entries_.end(), name,
                       [](const ZipEntry& a, std::string_view b) { return a.name < b; });
  return at != entries_.end() && at->name == name ? &*at : nullptr;
}

Status check_crc(const ZipEntry& entry) {
  const auto* data = reinterpret_cast<const Bytef*>(entry.bytes.data());
  const auto crc = static_cast<uint32_t>(crc32_z(0, data, entry.bytes.size()));
  // crc32_z of a null pointer is the start value 0, which is right for no bytes.
  if (crc == entry.crc32) return {};
  return data_loss(
      fmt::format("entry '{}' has checksum {:08x} instead of {:08x}: it is damaged; "
                  "download it again",
                  printable(entry.name), crc, entry.crc32));
}

}  // namespace trireme
