#include "tests/contract/ops_support.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <ostream>
#include <sstream>

#include "kernels/base/random.h"
#include "kernels/cpu/features.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/emulator/emulator.h"
#include "tests/support/cuda_gpu.h"

namespace trireme::contract {
namespace {

constexpr float kPattern = -12345.5f;

std::vector<std::string> isas() {
  std::vector<std::string> names;
  for (Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512}) {
    if (isa_supported(isa)) names.emplace_back(isa_name(isa));
  }
  return names;
}

DeviceCase emulated_gpu(int capability) {
  DeviceCase device{"emulated", 1};
  device.capability = capability;
  return device;
}

// CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
int shared_bytes_of(int capability) {
  const bool has_most = capability == 90 || capability == 100;
  return (has_most ? 227 : capability == 80 ? 163 : 99) << 10;
}

}  // namespace

std::string DeviceCase::name() const {
  const char* const kind = skinny_groups ? "_skinny_groups_"
                           : warp_groups ? "_"
                                         : "_no_warp_groups_";
  const std::string gpu = capability == 90 ? "" : "_sm_" + std::to_string(capability);
  return isa + kind + std::to_string(threads) + gpu;
}
void PrintTo(const DeviceCase& device, std::ostream* stream) { *stream << device.name(); }

std::vector<DeviceCase> device_cases() {
  std::vector<DeviceCase> cases = {{"ref", 1}, {"emulated", 1}, {"emulated", 2}};
  for (const std::string& isa : isas()) {
    for (int threads : {1, 2}) cases.push_back({isa, threads});
  }
  cases.push_back(emulated_gpu(89));
  if (test::find_gpu().ok()) cases.push_back({"cuda", 1});
  return cases;
}

std::vector<DeviceCase> attention_cases() {
  std::vector<DeviceCase> cases = device_cases();
  for (DeviceCase device : device_cases()) {
    if (!device.tensor_cores() || device.capability != 90) continue;
    device.warp_groups = false;
    cases.push_back(device);
  }
  return cases;
}

std::vector<DeviceCase> product_cases() {
  std::vector<DeviceCase> cases = device_cases();
  for (DeviceCase device : device_cases()) {
    if (device != DeviceCase{"emulated", 2} && device.isa != "cuda") continue;
    device.skinny_groups = true;
    cases.push_back(device);
  }
  return cases;
}

std::vector<DeviceCase> quantized_cases() {
  std::vector<DeviceCase> cases = device_cases();
  cases.push_back(emulated_gpu(80));
  return cases;
}

std::vector<DeviceCase> cpu_cases() {
  std::vector<DeviceCase> cases;
  for (const std::string& isa : isas()) {
    for (int threads : {1, 2, 3}) cases.push_back({isa, threads});
  }
  return cases;
}

std::string case_name(const testing::TestParamInfo<DeviceCase>& info) { return info.param.name(); }

std::unique_ptr<Device> make_device(const DeviceCase& device) {
  if (device.isa == "ref") return make_checked_device(make_ref_device());
  if (device.isa == "emulated") {
    emulator::set_schedule(device.threads == 1 ? 0 : 20261127);
    emulator::set_gpu_kind(device.capability, shared_bytes_of(device.capability));
    return make_checked_device(make_cuda_device(device.cuda()).take());
  }
  if (device.isa == "cuda") return make_checked_device(test::make_gpu_device(device.cuda()));
  CpuOptions options;
  options.isa = device.isa;
  options.threads = device.threads;
  options.pin = false;
  return make_checked_device(make_cpu_device(options).take());
}

float Random::normal() { return trireme::normal(seed_, draws_++); }
std::vector<float> Random::normals(int64_t count, float scale) {
  std::vector<float> values(static_cast<size_t>(count));
  for (float& x : values) x = normal() * scale;
  return values;
}
int32_t Random::integer(int32_t low, int32_t high) {
  const double u = uniform(seed_, 7, static_cast<uint32_t>(draws_++));
  return low + static_cast<int32_t>(u * (high - low + 1));
}

Mat::Mat(Device& device, int64_t rows, int64_t cols, int64_t pad)
    : device_(&device),
      rows_(rows),
      cols_(cols),
      stride_(cols + pad),
      host_(static_cast<size_t>(rows * stride_), kPattern),
      buffer_(device.allocate(host_.size() * sizeof(float) + 1).take()),
      late_(device.allocate(host_.size() * sizeof(float) + sizeof(int32_t)).take()) {
  put();
}

Mat Mat::random(Device& device, Random& random, int64_t rows, int64_t cols, int64_t pad,
                float scale, float shift) {
  Mat mat(device, rows, cols, pad);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) mat.at(r, c) = random.normal() * scale + shift;
  }
  mat.put();
  return mat;
}

Mat Mat::parameter(Device& device, Random& random, int64_t rows, int64_t cols, int64_t pad,
                   float scale, float shift) {
  Mat mat = Mat::random(device, random, rows, cols, pad, scale, shift);
  mat.become_parameter();
  return mat;
}

void Mat::become_parameter() {
  parameter_ = true;
  put();
}

Mat Mat::clone() const {
  Mat copy(*device_, rows_, cols_, stride_ - cols_);
  copy.parameter_ = parameter_;
  copy.host_ = host_;
  copy.put();
  return copy;
}

TensorView Mat::view() const {
  if (!arrived_) {
    arrived_ = true;
    const auto all = static_cast<int64_t>(host_.size());
    const auto* index = static_cast<const int32_t*>(late_.data()) + all;
    device_->ops().gather_rows(tensor(late_.data(), 1, all, DType::kF32, device_->place()), index,
                               1, tensor(buffer_.data(), 1, all, DType::kF32, device_->place()));
  }
  TensorView v = tensor(buffer_.data(), rows_, cols_, DType::kF32, device_->place());
  v.row_stride = stride_;
  return v;
}

void Mat::set(const float* values) {
  for (int64_t r = 0; r < rows_; ++r) {
    for (int64_t c = 0; c < cols_; ++c) at(r, c) = values[r * cols_ + c];
  }
  put();
}

void Mat::put() {
  arrived_ = parameter_ || host_.empty() || device_->queue() == nullptr;
  const std::vector<float> nothing(host_.size(), std::numeric_limits<float>::quiet_NaN());
  if (!arrived_) device_->copy(buffer_.data(), nothing.data(), nothing.size() * sizeof(float));
  device_->copy(arrived_ ? buffer_.data() : late_.data(), host_.data(),
                host_.size() * sizeof(float));
  EXPECT_TRUE(device_->synchronize().ok());
}

void Mat::fetch() {
  view();
  device_->copy(host_.data(), buffer_.data(), host_.size() * sizeof(float));
  EXPECT_TRUE(device_->synchronize().ok());
  for (int64_t r = 0; r < rows_; ++r) {
    for (int64_t c = cols_; c < stride_; ++c) {
      ASSERT_EQ(at(r, c), kPattern) << "an op wrote between rows, after row " << r;
    }
  }
}

std::vector<float> Mat::row(int64_t row) const {
  const auto first = host_.begin() + row * stride_;
  return {first, first + cols_};
}

std::vector<float> Mat::values() const {
  std::vector<float> all;
  for (int64_t r = 0; r < rows_; ++r) {
    const std::vector<float> one = row(r);
    all.insert(all.end(), one.begin(), one.end());
  }
  return all;
}

Batch::Batch(Device& device, const std::vector<RunSpec>& runs) {
  std::vector<std::vector<int32_t>> positions;
  for (const RunSpec& run : runs) {
    positions.emplace_back();
    for (int32_t i = 0; i < run.rows; ++i) positions.back().push_back(run.first + i);
  }
  put(device, positions);
}

Batch::Batch(Device& device, const std::vector<std::vector<int32_t>>& positions) {
  put(device, positions);
}

void Batch::put(Device& device, const std::vector<std::vector<int32_t>>& positions) {
  offsets_ = {0};
  for (const std::vector<int32_t>& run : positions) {
    positions_.insert(positions_.end(), run.begin(), run.end());
    offsets_.push_back(static_cast<int32_t>(positions_.size()));
  }
  device_offsets_ = std::make_unique<Array<int32_t>>(device, offsets_);
  device_positions_ = std::make_unique<Array<int32_t>>(device, positions_);
}

Ragged Batch::ragged() const {
  return {device_offsets_->data(), device_positions_->data(), sequences(), rows()};
}

States::States(Device& device, int32_t sequences, int64_t floats)
    : device_(&device), floats_(floats), stride_((kOffset + floats * 4 + 127) / 64 * 64) {
  const auto bytes = static_cast<size_t>(stride_ * sequences);
  buffer_ = device.allocate(bytes + 1).take();
  const std::vector<float> poison(bytes / 4, std::numeric_limits<float>::quiet_NaN());
  device.copy(buffer_.data(), poison.data(), bytes);
  std::vector<std::byte*> bases;
  for (int32_t s = 0; s < sequences; ++s) bases.push_back(base(s));
  bases_ = std::make_unique<Array<std::byte*>>(device, bases);
}

// Sequences lie in descending order, so that nothing passes by taking them for an array.
std::byte* States::at(int32_t sequence) const {
  const auto count = static_cast<int64_t>(buffer_.bytes()) / stride_;
  return static_cast<std::byte*>(buffer_.data()) + (count - 1 - sequence) * stride_ + kOffset;
}

std::byte* States::base(int32_t sequence) const { return at(sequence) - kOffset; }

StateRows States::rows() const { return {bases_->data(), kOffset}; }

std::vector<float> States::get(int32_t sequence) const {
  std::vector<float> values(static_cast<size_t>(floats_));
  device_->copy(values.data(), at(sequence), values.size() * sizeof(float));
  EXPECT_TRUE(device_->synchronize().ok());
  return values;
}

void States::set(int32_t sequence, const std::vector<float>& values) {
  device_->copy(at(sequence), values.data(), values.size() * sizeof(float));
  EXPECT_TRUE(device_->synchronize().ok());
}

Weight::Weight(Device& device, Random& random, int64_t rows, int64_t cols, DType dtype)
    : matrix(device.make_matrix(rows, cols, dtype).take()) {
  const auto count = static_cast<size_t>(rows * cols);
  std::vector<float> exact(count);
  for (float& x : exact) x = random.normal();
  rounded.resize(count);
  std::vector<float> stored(count);  // as dtype
  convert_floats(exact.data(), DType::kF32, stored.data(), dtype, count);
  convert_floats(stored.data(), dtype, rounded.data(), DType::kF32, count);
  device.write_rows(matrix, 0, ConstTensorView(exact.data(), rows, cols, DType::kF32));
  EXPECT_TRUE(device.synchronize().ok());
}

std::vector<float> dequantized(const QuantizedRows& q) {
  std::vector<float> values(static_cast<size_t>(q.rows * q.cols));
  for (int64_t r = 0; r < q.rows; ++r) dequantize_row(q.view(), r, values.data() + r * q.cols);
  return values;
}

Products products(const std::vector<float>& x, const std::vector<float>& w, int64_t inputs,
                  const std::vector<float>& bias) {
  const auto cols = static_cast<size_t>(inputs);
  Products p;
  for (size_t row = 0; row * cols < x.size(); ++row) {
    for (size_t o = 0; o * cols < w.size(); ++o) {
      double sum = bias.empty() ? 0.0 : bias[o], size = std::abs(sum);
      for (size_t i = 0; i < cols; ++i) {
        const double term = double{x[row * cols + i]} * w[o * cols + i];
        sum += term;
        size += std::abs(term);
      }
      p.sums.push_back(sum);
      p.sizes.push_back(size);
    }
  }
  return p;
}

void expect_products(const std::vector<float>& got, const Products& want, double tolerance) {
  ASSERT_EQ(got.size(), want.sums.size());
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_NEAR(got[i], want.sums[i], tolerance * want.sizes[i]) << "output " << i;
}

std::vector<float> rounded_to(DType dtype, const std::vector<float>& values) {
  std::vector<float> stored(values.size()), rounded(values.size());
  convert_floats(values.data(), DType::kF32, stored.data(), dtype, values.size());
  convert_floats(stored.data(), dtype, rounded.data(), DType::kF32, values.size());
  return rounded;
}

namespace {

bool near(float got, double want, double tolerance) {  // false for NaN
  return std::abs(got - want) <= tolerance * std::max(1.0, std::abs(want));
}

}  // namespace

bool all_near(const std::vector<float>& got, const std::vector<double>& want, double tolerance) {
  for (size_t i = 0; i < got.size(); ++i) {
    if (!near(got[i], want[i], tolerance)) return false;
  }
  return got.size() == want.size();
}

void expect_near(const std::vector<float>& got, const std::vector<double>& want, double tolerance,
                 const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  size_t wrong = 0;
  std::ostringstream list;
  for (size_t i = 0; i < got.size(); ++i) {
    if (near(got[i], want[i], tolerance)) continue;
    if (++wrong <= 5) list << "\n  [" << i << "] is " << got[i] << ", not " << want[i];
  }
  EXPECT_EQ(wrong, 0u) << what << ": of " << got.size() << " values" << list.str();
}

void expect_same_bits(const std::vector<float>& got, const std::vector<float>& want,
                      const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  size_t wrong = 0;
  std::ostringstream list;
  for (size_t i = 0; i < got.size(); ++i) {
    if (std::bit_cast<uint32_t>(got[i]) == std::bit_cast<uint32_t>(want[i])) continue;
    if (++wrong <= 5) list << "\n  [" << i << "] is " << got[i] << ", not " << want[i];
  }
  EXPECT_EQ(wrong, 0u) << what << ": of " << got.size() << " values" << list.str();
}

}  // namespace trireme::contract
