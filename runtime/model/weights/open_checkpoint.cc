// open_checkpoint: safetensors files, one or many, as one Checkpoint.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "kernels/base/check.h"
#include "runtime/model/weights/checkpoint.h"
#include "runtime/model/weights/checkpoint_files.h"
#include "runtime/model/weights/mapped_file.h"
#include "runtime/model/weights/safetensors.h"

namespace trireme {
namespace {

struct ShardFile {
  std::string path;
  MappedFile mapping;
};

// Where a tensor's bytes lie.
struct Location {
  size_t file = 0;
  size_t offset = 0;
};

class SafetensorsCheckpoint final : public Checkpoint {
 public:
  // REQUIRES: tensors sorted by name; locations[i] is of tensors[i] and inside its file.
  SafetensorsCheckpoint(std::string path, std::vector<ShardFile> files,
                        std::vector<TensorInfo> tensors, std::vector<Location> locations)
      : path_(std::move(path)),
        files_(std::move(files)),
        tensors_(std::move(tensors)),
        locations_(std::move(locations)) {}

  std::string_view path() const override { return path_; }
  std::span<const TensorInfo> tensors() const override { return tensors_; }
  std::string_view path_of(const TensorInfo& info) const override {
    return files_[locations_[position(info)].file].path;
  }

  Result<std::span<const std::byte>> bytes(const TensorInfo& info) const override {
    const size_t i = position(info);
    const std::span<const std::byte> mapped = mapped_bytes(i);
    if (aligned(tensors_[i], mapped)) return mapped;
    const std::lock_guard lock(copies_mutex_);
    auto [copy, is_new] = copies_.try_emplace(i);
    if (is_new) {
      copy->second = allocate_host(mapped.size());
      std::memcpy(copy->second.data(), mapped.data(), mapped.size());
    }
    return std::span<const std::byte>(static_cast<const std::byte*>(copy->second.data()),
                                      mapped.size());
  }

  void done_with(const TensorInfo& info) const override {
    const size_t i = position(info);
    trireme::done_with(mapped_bytes(i));
    const std::lock_guard lock(copies_mutex_);
    copies_.erase(i);
  }

 private:
  size_t position(const TensorInfo& info) const {
    const TensorInfo* own = find(info.name);
    CHECK(own != nullptr) << "tensor '" << info.name << "' is of another checkpoint";
    return static_cast<size_t>(own - tensors_.data());
  }
  std::span<const std::byte> mapped_bytes(size_t i) const {
    return files_[locations_[i].file].mapping.bytes().subspan(locations_[i].offset,
                                                              tensors_[i].bytes);
  }
  static bool aligned(const TensorInfo& info, std::span<const std::byte> bytes) {
    const size_t alignment = info.dtype ? dtype_bytes(*info.dtype) : 1;
    return bytes.empty() || reinterpret_cast<uintptr_t>(bytes.data()) % alignment == 0;
  }

  const std::string path_;
  const std::vector<ShardFile> files_;
  const std::vector<TensorInfo> tensors_;
  const std::vector<Location> locations_;
  mutable std::mutex copies_mutex_;
  mutable std::map<size_t, Buffer> copies_;  // of tensors that their file does not align
};

struct Opened {
  TensorInfo info;
  Location location;
};

// Index and files tell the same story: each tensor once, in the file that the index names.
Status check_against_index(const CheckpointFiles& files, const std::vector<Opened>& tensors) {
  for (const Opened& tensor : tensors) {
    const auto entry = files.index.find(tensor.info.name);
    if (entry == files.index.end() || entry->second != tensor.location.file) {
      return data_loss(fmt::format(
          "{}: tensor '{}' is here, but {} {}; download the index and its files again",
          files.paths[tensor.location.file], printable(tensor.info.name), files.index_path,
          entry == files.index.end() ? std::string("does not list it")
                                     : "says it is in " + files.paths[entry->second]));
    }
  }
  if (tensors.size() == files.index.size()) return {};
  for (const auto& [name, file] : files.index) {
    const auto at =
        std::lower_bound(tensors.begin(), tensors.end(), name,
                         [](const Opened& a, const std::string& b) { return a.info.name < b; });
    if (at == tensors.end() || at->info.name != name) {
      return data_loss(
          fmt::format("{}: tensor '{}' is missing, and {} says it is here; download the file again",
                      files.paths[file], printable(name), files.index_path));
    }
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<Checkpoint>> open_checkpoint(const std::string& path) {
  const Result<CheckpointFiles> files = find_checkpoint_files(path);
  if (!files.ok()) return files.status();

  std::vector<ShardFile> shards;
  std::vector<Opened> opened;
  for (const std::string& file : files->paths) {
    Result<MappedFile> mapping = MappedFile::open(file);
    if (!mapping.ok()) return mapping.status();
    Result<SafetensorsFile> parsed = parse_safetensors(mapping->bytes());
    if (!parsed.ok()) return parsed.status().at(file);
    for (SafetensorsTensor& tensor : parsed->tensors)
      opened.push_back({std::move(tensor.info), {shards.size(), tensor.offset}});
    shards.push_back({file, mapping.take()});
  }
  std::sort(opened.begin(), opened.end(),
            [](const Opened& a, const Opened& b) { return a.info.name < b.info.name; });
  for (size_t i = 1; i < opened.size(); ++i) {
    if (opened[i].info.name != opened[i - 1].info.name) continue;
    return data_loss(fmt::format("{}: tensor '{}' is in {} as well; every tensor may be there once",
                                 files->paths[opened[i].location.file],
                                 printable(opened[i].info.name),
                                 files->paths[opened[i - 1].location.file]));
  }
  if (!files->index_path.empty()) {
    Status agrees = check_against_index(*files, opened);
    if (!agrees.ok()) return agrees;
  }

  std::vector<TensorInfo> tensors;
  std::vector<Location> locations;
  for (Opened& tensor : opened) {
    tensors.push_back(std::move(tensor.info));
    locations.push_back(tensor.location);
  }
  return std::unique_ptr<Checkpoint>(std::make_unique<SafetensorsCheckpoint>(
      path, std::move(shards), std::move(tensors), std::move(locations)));
}

}  // namespace trireme
