#include "runtime/model/weights/dummy_checkpoint.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <mutex>
#include <string_view>
#include <tuple>
#include <utility>

#include "kernels/base/check.h"
#include "kernels/base/random.h"

namespace trireme {
namespace {

// A tensor repeats one block of random values, from a start of its own. The length is prime: with a
// power of two, rows of 4096 would repeat after 256 and a vocabulary would have equal logits; so
// the first equal rows are kBlockElements rows apart.
constexpr size_t kBlockElements = 1'048'573;

uint64_t fnv1a(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

// How a tensor's values come from standard normal ones: mean + deviation * n.
struct Distribution {
  float mean = 0;
  float deviation = 0;
};

Distribution distribution_of(const TensorInfo& info) {
  const auto dimensions =
      std::count_if(info.shape.begin(), info.shape.end(), [](int64_t d) { return d != 1; });
  if (dimensions >= 2)
    return {0, 1 / std::sqrt(static_cast<float>(std::max<int64_t>(1, info.shape.back())))};
  return {info.name.ends_with(".weight") ? 1.f : 0.f, 0.02f};
}

class DummyCheckpoint final : public Checkpoint {
 public:
  DummyCheckpoint(std::vector<TensorInfo> tensors, uint64_t seed)
      : tensors_(std::move(tensors)), seed_(seed), made_(tensors_.size()) {}

  std::string_view path() const override { return "dummy weights"; }
  std::span<const TensorInfo> tensors() const override { return tensors_; }
  std::string_view path_of(const TensorInfo&) const override { return path(); }
  void will_need(const ConstTensorView&) const override {}

  Result<std::span<const std::byte>> bytes(const TensorInfo& info) const override {
    const size_t i = position(info);
    const std::lock_guard lock(mutex_);
    if (made_[i].data() == nullptr && info.bytes > 0) made_[i] = make(tensors_[i]);
    return std::span<const std::byte>(static_cast<const std::byte*>(made_[i].data()), info.bytes);
  }

  void done_with(const TensorInfo& info) const override {
    const size_t i = position(info);
    const std::lock_guard lock(mutex_);
    made_[i] = Buffer();
  }

 private:
  using BlockKey = std::tuple<DType, float, float>;

  size_t position(const TensorInfo& info) const {
    const TensorInfo* own = find(info.name);
    CHECK(own != nullptr) << "tensor '" << info.name << "' is of another checkpoint";
    return static_cast<size_t>(own - tensors_.data());
  }

  // REQUIRES of both: mutex_ is held.
  Buffer make(const TensorInfo& info) const {
    Buffer buffer = allocate_host(info.bytes);
    const std::vector<std::byte>& block = block_of(info);
    const size_t element = dtype_bytes(*info.dtype);
    const auto draw = philox4x32({static_cast<uint32_t>(seed_), static_cast<uint32_t>(seed_ >> 32)},
                                 {static_cast<uint32_t>(fnv1a(info.name)),
                                  static_cast<uint32_t>(fnv1a(info.name) >> 32), 0, 2});
    size_t from = draw[0] % kBlockElements * element;
    auto* to = static_cast<std::byte*>(buffer.data());
    for (size_t left = info.bytes; left > 0; from = 0) {
      const size_t piece = std::min(left, block.size() - from);
      std::memcpy(to, block.data() + from, piece);
      to += piece;
      left -= piece;
    }
    return buffer;
  }
  const std::vector<std::byte>& block_of(const TensorInfo& info) const {
    if (normals_.empty()) {
      normals_.resize(kBlockElements);
      for (size_t i = 0; i < kBlockElements; ++i) normals_[i] = normal(seed_, i);
    }
    const Distribution d = distribution_of(info);
    auto [at, is_new] = blocks_.try_emplace(BlockKey{*info.dtype, d.mean, d.deviation});
    if (is_new) {
      at->second.resize(kBlockElements * dtype_bytes(*info.dtype));
      for (size_t i = 0; i < kBlockElements; ++i)
        store_f32(at->second.data(), *info.dtype, i, d.mean + d.deviation * normals_[i]);
    }
    return at->second;
  }

  const std::vector<TensorInfo> tensors_;
  const uint64_t seed_;
  mutable std::mutex mutex_;
  mutable std::vector<Buffer> made_;
  mutable std::vector<float> normals_;                         // standard normal, [kBlockElements]
  mutable std::map<BlockKey, std::vector<std::byte>> blocks_;  // the same, scaled and converted
};

}  // namespace

std::unique_ptr<Checkpoint> make_dummy_checkpoint(std::vector<TensorInfo> tensors, uint64_t seed) {
  std::sort(tensors.begin(), tensors.end(),
            [](const TensorInfo& a, const TensorInfo& b) { return a.name < b.name; });
  for (size_t i = 0; i < tensors.size(); ++i) {
    const std::optional<DType> dtype = tensors[i].dtype;
    CHECK(dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16) << tensors[i].name;
    CHECK(i == 0 || tensors[i].name != tensors[i - 1].name) << tensors[i].name;
  }
  return std::make_unique<DummyCheckpoint>(std::move(tensors), seed);
}

}  // namespace trireme
