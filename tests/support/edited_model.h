// A model folder made from another by editing config and tensors: what tests of loaders feed them.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "kernels/base/json.h"
#include "kernels/base/status.h"

namespace trireme::test {

// A folder of this process's own under the system's temporary folder, gone with the object.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

struct EditedTensor {
  std::vector<int64_t> shape;
  std::vector<float> values;  // whatever the file's type was
};
using EditedTensors = std::map<std::string, EditedTensor>;

// The floating-point tensors of a checkpoint as f32.
Result<EditedTensors> read_tensors(const std::string& path);

// Writes folder/model.safetensors (F32) and, unless `config` is null, folder/config.json.
Status write_model(const std::string& folder, const Json& config, const EditedTensors& tensors);

// [rows, cols] -> [cols, rows]. REQUIRES: two dimensions.
EditedTensor transposed(const EditedTensor& tensor);

}  // namespace trireme::test
