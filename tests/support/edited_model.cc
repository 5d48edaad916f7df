#include "tests/support/edited_model.h"

#include <atomic>
#include <filesystem>
#include <fstream>

#include <boost/json/serialize.hpp>
#include <unistd.h>

#include "kernels/base/dtype.h"
#include "runtime/model/weights/checkpoint.h"
#include "runtime/model/weights/safetensors_writer.h"

namespace trireme::test {

TempFolder::TempFolder() {
  static std::atomic<int> count{0};
  path_ = std::filesystem::temp_directory_path() /
          ("trireme_test_" + std::to_string(getpid()) + "_" + std::to_string(count++));
  std::filesystem::create_directories(path_);
}

TempFolder::~TempFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

Result<EditedTensors> read_tensors(const std::string& path) {
  const auto checkpoint = open_checkpoint(path);
  if (!checkpoint.ok()) return checkpoint.status();
  EditedTensors tensors;
  for (const TensorInfo& info : (*checkpoint)->tensors()) {
    CHECK(info.dtype && *info.dtype <= DType::kF16) << info.name << " is not floating-point";
    const auto bytes = (*checkpoint)->bytes(info);
    if (!bytes.ok()) return bytes.status();
    EditedTensor tensor{info.shape, std::vector<float>(info.bytes / dtype_bytes(*info.dtype))};
    convert_floats(bytes->data(), *info.dtype, tensor.values.data(), DType::kF32,
                   tensor.values.size());
    tensors.emplace(info.name, std::move(tensor));
  }
  return tensors;
}

Status write_model(const std::string& folder, const Json& config, const EditedTensors& tensors) {
  std::filesystem::create_directories(folder);
  std::vector<TensorToWrite> written;
  for (const auto& [name, tensor] : tensors) {
    written.push_back({make_tensor_info(name, DType::kF32, tensor.shape),
                       std::as_bytes(std::span(tensor.values))});
  }
  if (!config.is_null()) {
    std::ofstream out(folder + "/config.json");
    out << boost::json::serialize(config);
    if (!out.flush()) return data_loss("cannot write " + folder + "/config.json");
  }
  return write_safetensors(folder + "/model.safetensors", written);
}

EditedTensor transposed(const EditedTensor& tensor) {
  CHECK(tensor.shape.size() == 2);
  const int64_t rows = tensor.shape[0], cols = tensor.shape[1];
  EditedTensor result{{cols, rows}, std::vector<float>(tensor.values.size())};
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) result.values[c * rows + r] = tensor.values[r * cols + c];
  }
  return result;
}

}  // namespace trireme::test
