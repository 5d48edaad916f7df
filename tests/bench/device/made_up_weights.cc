#include "tests/bench/device/made_up_weights.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "kernels/base/random.h"
#include "runtime/model/model.h"
#include "runtime/model/weights/dummy_checkpoint.h"

namespace trireme::bench {
namespace {

constexpr size_t kLargeBytes = size_t{4} << 20;
// Of the numbers that the block repeats; a prime, so that rows of a matrix differ.
constexpr size_t kNumbers = 1'048'573;
// 1 / sqrt(4096): in all models of interest the products of such matrices stay near 1.
constexpr float kDeviation = 1.0f / 64;

class MadeUpWeights final : public Checkpoint {
 public:
  MadeUpWeights(std::unique_ptr<Checkpoint> small, Buffer block)
      : small_(std::move(small)), block_(std::move(block)) {}

  std::string_view path() const override { return "made-up weights"; }
  std::span<const TensorInfo> tensors() const override { return small_->tensors(); }
  std::string_view path_of(const TensorInfo&) const override { return path(); }
  void will_need(const ConstTensorView&) const override {}
  Result<std::span<const std::byte>> bytes(const TensorInfo& info) const override {
    if (info.bytes < kLargeBytes) return small_->bytes(info);
    return std::span(static_cast<const std::byte*>(block_.data()), info.bytes);
  }
  void done_with(const TensorInfo& info) const override {
    if (info.bytes < kLargeBytes) small_->done_with(info);
  }

 private:
  std::unique_ptr<Checkpoint> small_;
  Buffer block_;  // as large as the largest tensor
};

void fill(Buffer& block) {
  std::vector<std::byte> numbers(kNumbers * dtype_bytes(DType::kBF16));
  for (size_t i = 0; i < kNumbers; ++i)
    store_f32(numbers.data(), DType::kBF16, i, kDeviation * normal(20261127, i));
  auto* to = static_cast<std::byte*>(block.data());
  for (size_t done = 0; done < block.bytes(); done += numbers.size())
    std::memcpy(to + done, numbers.data(), std::min(numbers.size(), block.bytes() - done));
}

}  // namespace

Result<std::unique_ptr<Checkpoint>> make_up_weights(Device& device, const ModelSpec& spec) {
  const auto shapes = tensor_shapes(spec);
  if (!shapes.ok()) return shapes.status();
  std::vector<TensorInfo> tensors;
  size_t largest = 0;
  for (const auto& [name, shape] : *shapes) {
    tensors.push_back(make_tensor_info(name, DType::kBF16, shape));
    largest = std::max(largest, tensors.back().bytes);
  }
  Result<Buffer> block = device.allocate_pinned(largest < kLargeBytes ? 1 : largest);
  if (!block.ok()) return block.status();
  fill(*block);
  return std::unique_ptr<Checkpoint>(std::make_unique<MadeUpWeights>(
      make_dummy_checkpoint(std::move(tensors), 20261127), block.take()));
}

}  // namespace trireme::bench
