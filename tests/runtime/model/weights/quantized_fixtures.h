// The fixtures that scripts/golden/quantized_fixtures.py made with the official packages, as a
// checkpoint in memory that a test may damage.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json/object.hpp>
#include <gtest/gtest.h>

#include "kernels/base/json.h"
#include "runtime/model/weights/checkpoint.h"
#include "runtime/model/weights/quantized_tensors.h"

namespace trireme {

struct MemoryTensor {
  TensorInfo info;
  std::vector<std::byte> bytes;  // exactly info.bytes, so that a sanitizer sees what reads beyond
};

// Tensors by name, each in an allocation of its own.
class MemoryCheckpoint final : public Checkpoint {
 public:
  explicit MemoryCheckpoint(const std::map<std::string, MemoryTensor>& tensors)
      : tensors_(tensors) {
    for (const auto& [name, tensor] : tensors_) infos_.push_back(tensor.info);
  }
  std::string_view path() const override { return "memory"; }
  std::span<const TensorInfo> tensors() const override { return infos_; }
  std::string_view path_of(const TensorInfo&) const override { return "memory.safetensors"; }
  Result<std::span<const std::byte>> bytes(const TensorInfo& info) const override {
    return std::span<const std::byte>(tensors_.at(info.name).bytes);
  }
  void will_need(const ConstTensorView&) const override {}
  void done_with(const TensorInfo&) const override {}

 private:
  std::map<std::string, MemoryTensor> tensors_;
  std::vector<TensorInfo> infos_;
};

// One weight, "<stem>.weight", and its config.
struct QuantizedFixture {
  std::string stem;
  int64_t rows = 0;
  int64_t cols = 0;
  Json config;  // a config.json with nothing but quantization_config
  std::map<std::string, MemoryTensor> tensors;
  std::vector<float> expected;  // numbers 0, stride, 2 * stride, ... of the matrix
  int64_t stride = 1;

  std::string weight() const { return stem + ".weight"; }
  std::unique_ptr<QuantizedTensors> method() const {
    auto made = quantized_tensors(config, "config.json");
    EXPECT_TRUE(made.ok()) << stem << ": " << made.status().message();
    return made.ok() ? made.take() : nullptr;
  }
};

inline std::vector<QuantizedFixture> quantized_fixtures() {
  const std::string data = TRIREME_SOURCE_DIR "/tests/runtime/model/weights/data/quantized";
  const auto file = open_checkpoint(data + ".safetensors");
  const auto json = read_json_file(data + ".json");
  CHECK(file.ok() && json.ok());
  std::vector<QuantizedFixture> fixtures;
  for (const auto& [stem, value] : find(*json, "cases")->get_object()) {
    QuantizedFixture f;
    f.stem = std::string(stem);
    f.rows = find(value, "rows")->get_int64();
    f.cols = find(value, "cols")->get_int64();
    f.stride = find(*json, "stride")->get_int64();
    f.config = boost::json::object{{"quantization_config", *find(value, "quantization_config")}};
    for (const TensorInfo& info : (*file)->tensors()) {
      if (!info.name.starts_with(f.stem + ".")) continue;
      const auto bytes = *(*file)->bytes(info);
      if (info.name.ends_with(".expected")) {
        f.expected.resize(bytes.size() / sizeof(float));
        std::memcpy(f.expected.data(), bytes.data(), bytes.size());
      } else {
        f.tensors[info.name] = {info, {bytes.begin(), bytes.end()}};
      }
    }
    fixtures.push_back(std::move(f));
  }
  return fixtures;
}

inline QuantizedFixture quantized_fixture(std::string_view stem) {
  for (QuantizedFixture& f : quantized_fixtures())
    if (f.stem == stem) return std::move(f);
  CHECK(false) << "no fixture " << stem;
  return {};
}

}  // namespace trireme
