#include "runtime/model/weights/checkpoint_files.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <string_view>
#include <system_error>

#include <boost/json/object.hpp>
#include <boost/json/string.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "kernels/base/json.h"
#include "runtime/model/weights/tensor_info.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSuffix = ".safetensors";
constexpr std::string_view kIndexName = "model.safetensors.index.json";
constexpr size_t kIndexBytesMax = 100'000'000;
constexpr size_t kFilesMax = 4096;

bool is_pickle(std::string_view name) {
  return name.ends_with(".pth") || name.ends_with(".pt") || name.ends_with(".bin");
}

// A pickle runs code when it is loaded; only the RWKV release files have a converter.
Status pickle_refused(const std::string& path) {
  if (path.ends_with(".pth")) {
    return invalid_argument(
        fmt::format("{}: a pickle is not loaded; run 'trireme convert rwkv-pth {} {}.safetensors' "
                    "and give the new file",
                    path, path, path.substr(0, path.size() - 4)));
  }
  return invalid_argument(
      fmt::format("{}: a pickle is not loaded; use the model's .safetensors files", path));
}

// Weights stay in the folder the user named: a folder that was downloaded must not make us open
// other files of this machine. The Hugging Face cache (snapshots/<revision>/x -> ../../blobs/y) is
// the one link that leads out.
Status check_inside(const fs::path& folder, const fs::path& file) {
  std::error_code error;
  const fs::path real_folder = fs::canonical(folder, error);
  if (error) return not_found(fmt::format("{}: {}", folder.string(), error.message()));
  const fs::path real = fs::canonical(file, error);
  if (error) {
    return not_found(
        fmt::format("{}: {}; copy or download it again", file.string(), error.message()));
  }
  if (real.parent_path() == real_folder) return {};
  const fs::path snapshots = real_folder.parent_path();
  if (snapshots.filename() == "snapshots" &&
      real.parent_path() == snapshots.parent_path() / "blobs") {
    return {};
  }
  return invalid_argument(
      fmt::format("{}: is a link that leaves its folder, to {}; copy the file into the folder, or "
                  "name the file itself as the model's path",
                  file.string(), real.string()));
}

Result<CheckpointFiles> only_file(const fs::path& folder, const fs::path& file) {
  Status inside = check_inside(folder, file);
  if (!inside.ok()) return inside;
  return CheckpointFiles{{file.string()}, {}, {}};
}

Status check_file_name(const std::string& name) {
  const bool plain = name.find('/') == std::string::npos && name.find('\\') == std::string::npos &&
                     name.find('\0') == std::string::npos;
  if (plain && name.ends_with(kSuffix) && name.size() > kSuffix.size()) return {};
  return invalid_argument(
      fmt::format("weight_map names the file '{}'; only plain names of .safetensors files beside "
                  "the index are read",
                  printable(name)));
}

Result<CheckpointFiles> indexed_files(const fs::path& index_path) {
  const fs::path folder = index_path.has_parent_path() ? index_path.parent_path() : fs::path(".");
  CheckpointFiles files;
  files.index_path = index_path.string();
  Status index_inside = check_inside(folder, index_path);
  if (!index_inside.ok()) return index_inside;
  Result<Json> json =
      read_json_file(files.index_path, {.depth_max = 8, .bytes_max = kIndexBytesMax});
  if (!json.ok()) return json.status();
  const Json* weight_map = find(*json, "weight_map");
  if (weight_map == nullptr || !weight_map->is_object() || weight_map->get_object().empty()) {
    return invalid_argument(
        fmt::format("{}: has no 'weight_map' of tensors and files", files.index_path));
  }
  std::map<std::string, size_t, std::less<>> positions;  // file name -> position, in name order
  for (const auto& [tensor, file] : weight_map->get_object()) {
    if (!file.is_string()) {
      return invalid_argument(fmt::format("{}: weight_map gives tensor '{}' no file name",
                                          files.index_path, printable(tensor)));
    }
    const std::string name(file.get_string());
    Status plain = check_file_name(name);
    if (!plain.ok()) return plain.at(files.index_path);
    positions.emplace(name, 0);
    if (positions.size() > kFilesMax) {
      return invalid_argument(
          fmt::format("{}: lists more than {} files", files.index_path, kFilesMax));
    }
  }
  for (auto& [name, position] : positions) {
    const fs::path path = folder / name;
    Status inside = check_inside(folder, path);
    if (!inside.ok()) return inside.at(files.index_path);
    position = files.paths.size();
    files.paths.push_back(path.string());
  }
  for (const auto& [tensor, file] : weight_map->get_object())
    files.index.emplace(std::string(tensor), positions.at(std::string(file.get_string())));
  return files;
}

Result<CheckpointFiles> files_of_folder(const std::string& path) {
  std::error_code error;
  const fs::path folder(path);
  if (fs::exists(folder / "model.safetensors", error))
    return only_file(folder, folder / "model.safetensors");
  if (fs::exists(folder / kIndexName, error)) return indexed_files(folder / kIndexName);

  std::set<std::string> candidates;
  std::string pickle;
  fs::directory_iterator entries(folder, error);
  for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
    const std::string name = entries->path().filename().string();
    if (name.ends_with(kSuffix)) candidates.insert(name);
    if (is_pickle(name) && (pickle.empty() || name < pickle)) pickle = name;
  }
  if (error) return not_found(fmt::format("{}: cannot list it: {}", path, error.message()));
  if (candidates.size() == 1) return only_file(folder, folder / *candidates.begin());
  if (candidates.size() > 1) {
    return invalid_argument(
        fmt::format("{}: has {} .safetensors files and no {}; name the one to load, or add the "
                    "index ({}, ...)",
                    path, candidates.size(), kIndexName, printable(*candidates.begin())));
  }
  if (!pickle.empty()) return pickle_refused((folder / pickle).string());
  return not_found(fmt::format("{}: has no model.safetensors, no {} and no other .safetensors file",
                               path, kIndexName));
}

}  // namespace

Result<CheckpointFiles> find_checkpoint_files(const std::string& path) {
  std::error_code error;
  if (!fs::exists(path, error))
    return not_found(fmt::format("{}: no such file or folder", printable(path)));
  if (fs::is_directory(path, error)) return files_of_folder(path);
  if (path.ends_with(".safetensors.index.json")) return indexed_files(path);
  if (is_pickle(path)) return pickle_refused(path);
  return CheckpointFiles{{path}, {}, {}};
}

}  // namespace trireme
