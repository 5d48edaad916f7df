#include "runtime/model/weights/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string_view>
#include <tuple>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/string.hpp>
#include <fmt/format.h>

#include "kernels/base/json.h"

namespace trireme {
namespace {

static_assert(std::endian::native == std::endian::little,
              "weights are read as they lie in the file");

constexpr size_t kLengthBytes = 8;

// A tensor as the header tells it: `begin` counts from the end of the header.
struct Entry {
  TensorInfo info;
  uint64_t begin = 0;
  uint64_t end = 0;
};

std::string_view view(const boost::json::string& s) { return {s.data(), s.size()}; }

Status bad_tensor(std::string_view name, std::string what) {
  return data_loss(fmt::format("tensor '{}' {}", printable(name), what));
}

// A whole number in [0, 2^63), however JSON stores it; false for anything else.
bool read_count(const Json& value, int64_t* out) {
  if (value.is_int64() && value.get_int64() >= 0) {
    *out = value.get_int64();
    return true;
  }
  return false;
}

Result<size_t> header_bytes(std::span<const std::byte> file) {
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  if (text.starts_with("version https://git-lfs")) {
    return data_loss(
        "this is a Git LFS pointer, not the weights: run 'git lfs pull' in its folder");
  }
  if (file.size() < kLengthBytes) {
    return data_loss(fmt::format(
        "{} bytes are too short for a safetensors file; copy or download it again", file.size()));
  }
  uint64_t n = 0;
  std::memcpy(&n, file.data(), kLengthBytes);
  if (n > kSafetensorsHeaderBytesMax) {
    return data_loss(
        fmt::format("the header length is {} bytes and the format allows {}: this is not a "
                    "safetensors file, or it is damaged",
                    n, kSafetensorsHeaderBytesMax));
  }
  if (n > file.size() - kLengthBytes) {
    return data_loss(
        fmt::format("the header should have {} bytes and the file has only {}: it is cut short; "
                    "copy or download it again",
                    n, file.size() - kLengthBytes));
  }
  if (n == 0 || text[kLengthBytes] != '{') {
    return data_loss("the header does not start with '{': this is not a safetensors file");
  }
  return static_cast<size_t>(n);
}

Status read_metadata(const Json& value, SafetensorsFile* file) {
  if (value.is_null()) return {};
  if (!value.is_object()) return data_loss("'__metadata__' is not an object of strings");
  for (const auto& [key, text] : value.get_object()) {
    if (!text.is_string()) {
      return data_loss(
          fmt::format("'__metadata__' has a value that is not a string: '{}'", printable(key)));
    }
    file->metadata.emplace_back(std::string(key), std::string(view(text.get_string())));
  }
  return {};
}

Status read_shape(const Json& value, TensorInfo* info) {
  const Json* shape = find(value, "shape");
  if (shape == nullptr || !shape->is_array())
    return bad_tensor(info->name, "has no 'shape' array in the header");
  if (shape->get_array().size() > kTensorDimensionsMax) {
    return bad_tensor(info->name, fmt::format("has {} dimensions; {} is the most we read",
                                              shape->get_array().size(), kTensorDimensionsMax));
  }
  for (const Json& item : shape->get_array()) {
    int64_t dimension = 0;
    if (!read_count(item, &dimension))
      return bad_tensor(info->name, "has a dimension that is no whole number below 2^63");
    info->shape.push_back(dimension);
  }
  return {};
}

Result<Entry> read_entry(std::string_view name, const Json& value) {
  Entry entry;
  entry.info.name = std::string(name);
  if (!value.is_object()) return bad_tensor(name, "is not described by an object in the header");
  const Json* dtype = find(value, "dtype");
  if (dtype == nullptr || !dtype->is_string())
    return bad_tensor(name, "has no 'dtype' string in the header");
  const SafetensorsDType* known = find_safetensors_dtype(view(dtype->get_string()));
  if (known == nullptr) {
    return bad_tensor(name, fmt::format("has dtype '{}', which the format does not know",
                                        printable(view(dtype->get_string()))));
  }
  entry.info.dtype_name = known->name;
  entry.info.dtype = known->dtype;
  Status shape = read_shape(value, &entry.info);
  if (!shape.ok()) return shape;

  const Json* offsets = find(value, "data_offsets");
  int64_t begin = 0;
  int64_t end = 0;
  if (offsets == nullptr || !offsets->is_array() || offsets->get_array().size() != 2 ||
      !read_count(offsets->get_array()[0], &begin) || !read_count(offsets->get_array()[1], &end)) {
    return bad_tensor(name, "has no 'data_offsets' of two whole numbers in the header");
  }
  if (end < begin)
    return bad_tensor(name, fmt::format("ends at {} before it begins at {}", end, begin));
  entry.begin = static_cast<uint64_t>(begin);
  entry.end = static_cast<uint64_t>(end);

  const Result<size_t> bytes = tensor_bytes(entry.info.shape, known->bits);
  if (!bytes.ok()) return bytes.status().at(fmt::format("tensor '{}'", printable(name)));
  entry.info.bytes = *bytes;
  if (entry.end - entry.begin != *bytes) {
    return bad_tensor(name, fmt::format("has shape {} of {}, which is {} bytes, and data_offsets "
                                        "for {} bytes: the file is damaged",
                                        shape_text(entry.info.shape), known->name, *bytes,
                                        entry.end - entry.begin));
  }
  return entry;
}

// The tensors lie one behind the other from 0 to the end of the file: no holes, no overlaps.
Status check_cover(std::vector<Entry>& entries, uint64_t data_bytes) {
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.begin, a.end, a.info.name) < std::tie(b.begin, b.end, b.info.name);
  });
  uint64_t previous_end = 0;
  for (const Entry& entry : entries) {
    if (entry.begin != previous_end) {
      return bad_tensor(
          entry.info.name,
          fmt::format("begins at byte {}, {} the tensor before it, which ends at {}: "
                      "the file is damaged",
                      entry.begin, entry.begin < previous_end ? "inside" : "after a hole behind",
                      previous_end));
    }
    previous_end = entry.end;
  }
  if (previous_end > data_bytes) {
    return data_loss(
        fmt::format("the tensors need {} bytes and the file has only {} behind its header: it is "
                    "cut short; copy or download it again",
                    previous_end, data_bytes));
  }
  if (previous_end < data_bytes) {
    return data_loss(
        fmt::format("{} bytes behind the last tensor belong to none: the file is damaged",
                    data_bytes - previous_end));
  }
  return {};
}

}  // namespace

Result<SafetensorsFile> parse_safetensors(std::span<const std::byte> file) {
  const Result<size_t> n = header_bytes(file);
  if (!n.ok()) return n.status();
  const size_t data_start = kLengthBytes + *n;
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + kLengthBytes, *n);
  const Result<Json> header = parse_json(text, {.depth_max = 4, .bytes_max = *n});
  if (!header.ok()) return data_loss("its header is damaged: " + header.status().message());

  SafetensorsFile result;
  std::vector<Entry> entries;
  for (const auto& [name, value] : header->get_object()) {  // '{' came first: it is an object
    if (name == "__metadata__") {
      Status metadata = read_metadata(value, &result);
      if (!metadata.ok()) return metadata;
      continue;
    }
    Result<Entry> entry = read_entry(std::string_view(name.data(), name.size()), value);
    if (!entry.ok()) return entry.status();
    entries.push_back(entry.take());
  }
  Status cover = check_cover(entries, file.size() - data_start);
  if (!cover.ok()) return cover;

  for (Entry& entry : entries) {
    result.tensors.push_back(
        {std::move(entry.info), data_start + static_cast<size_t>(entry.begin)});
  }
  std::sort(result.tensors.begin(), result.tensors.end(),
            [](const SafetensorsTensor& a, const SafetensorsTensor& b) {
              return a.info.name < b.info.name;
            });
  return result;
}

}  // namespace trireme
