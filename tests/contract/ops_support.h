// What the suites of Ops share: the devices under test, matrices that live on a device and are
// looked at on the host, ragged batches, caches and states full of poison.
//
// Everything random comes from a seed that a failure prints.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/base/quantize.h"
#include "kernels/cuda/plugin/plugin.h"
#include "kernels/device.h"

namespace trireme::contract {

// A device under test. A new backend adds its cases to device_cases() and nothing else.
struct DeviceCase {
  // "ref", "emulated" (a CUDA device on the host), "cuda" (a GPU), or what CpuOptions::isa takes
  std::string isa;
  int threads = 1;             // "emulated": in which of two orders a block's threads run
  bool warp_groups = true;     // CudaOptions::warp_groups
  bool skinny_groups = false;  // CudaOptions::skinny_groups
  int capability = 90;         // of an emulated GPU
  std::string name() const;
  CudaOptions cuda() const { return {0, warp_groups, skinny_groups, 0}; }
  bool operator==(const DeviceCase&) const = default;
  // Products of many rows with 16-bit weights may round their rows to the weights' format first.
  bool tensor_cores() const { return isa == "emulated" || isa == "cuda"; }
};
void PrintTo(const DeviceCase& device, std::ostream* stream);

std::vector<DeviceCase> device_cases();  // all: the reference, every instruction set of the
                                         // machine, the kernels of a CUDA device in two orders of
                                         // threads and of one with little shared memory and none
                                         // of Hopper's ways, and on a GPU where there is one
std::vector<DeviceCase> attention_cases();  // and CUDA devices without warp groups, which it uses
std::vector<DeviceCase> product_cases();    // and one with products of 2 to 64 rows by them
std::vector<DeviceCase> quantized_cases();  // and one whose library has no fp8
std::vector<DeviceCase> cpu_cases();  // those that promise the Row law, with 1, 2 and 3 threads
std::string case_name(const testing::TestParamInfo<DeviceCase>& info);
std::unique_ptr<Device> make_device(const DeviceCase& device);  // wrapped in the checks

// Numbers that follow from the seed.
class Random {
 public:
  explicit Random(uint64_t seed) : seed_(seed) {}
  float normal();
  std::vector<float> normals(int64_t count, float scale = 1);
  int32_t integer(int32_t low, int32_t high);  // in [low, high]

 private:
  uint64_t seed_;
  uint64_t draws_ = 0;
};

// A f32 matrix with a copy on the host and one on the device, `pad` columns between rows. The
// padding holds a pattern; fetch() fails the test where an op has touched it.
//
// Numbers that were put arrive late: an op writes them, over NaN, when view() is asked for, and
// nobody waits for it. So what an op on a device with a queue reads before all earlier ops have
// ended is NaN.
class Mat {
 public:
  Mat(Device& device, int64_t rows, int64_t cols, int64_t pad = 0);
  static Mat random(Device& device, Random& random, int64_t rows, int64_t cols, int64_t pad = 0,
                    float scale = 1, float shift = 0);

  // A model's own: there before all ops, which may read it at any time.
  static Mat parameter(Device& device, Random& random, int64_t rows, int64_t cols, int64_t pad = 0,
                       float scale = 1, float shift = 0);
  void become_parameter();

  Mat clone() const;

  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  float& at(int64_t row, int64_t col) { return host_[static_cast<size_t>(row * stride_ + col)]; }
  float at(int64_t row, int64_t col) const {
    return host_[static_cast<size_t>(row * stride_ + col)];
  }
  void set(const float* values);  // all rows, without padding, host and device
  void put();                     // host to device; arrives when the view is asked for
  TensorView view() const;
  void fetch();                               // device to host
  std::vector<float> row(int64_t row) const;  // on the host
  std::vector<float> values() const;          // all rows, without padding

 private:
  Device* device_;
  int64_t rows_, cols_, stride_;
  std::vector<float> host_;
  Buffer buffer_;
  Buffer late_;  // what arrives, as one row, and behind it the row's index: 0
  bool parameter_ = false;
  mutable bool arrived_ = true;
};

// An array of numbers on the device.
template <class T>
class Array {
 public:
  Array(Device& device, const std::vector<T>& values)
      : buffer_(device.allocate(values.size() * sizeof(T) + 1).take()) {
    device.copy(buffer_.data(), values.data(), values.size() * sizeof(T));
    EXPECT_TRUE(device.synchronize().ok());
  }
  const T* data() const { return static_cast<const T*>(buffer_.data()); }

 private:
  Buffer buffer_;
};

// A run of a batch: rows of `sequence` at positions first, first + 1, ...; maybe none.
struct RunSpec {
  int32_t first = 0;
  int32_t rows = 0;
};

// Ragged, with its arrays on the device. Positions of a run ascend by one, or are given.
class Batch {
 public:
  Batch(Device& device, const std::vector<RunSpec>& runs);
  Batch(Device& device, const std::vector<std::vector<int32_t>>& positions);
  Ragged ragged() const;
  int32_t rows() const { return offsets_.back(); }
  int32_t sequences() const { return static_cast<int32_t>(offsets_.size()) - 1; }
  int32_t offset(int32_t sequence) const { return offsets_[static_cast<size_t>(sequence)]; }
  int32_t position(int32_t row) const { return positions_[static_cast<size_t>(row)]; }

 private:
  void put(Device& device, const std::vector<std::vector<int32_t>>& positions);
  std::vector<int32_t> offsets_, positions_;
  std::unique_ptr<Array<int32_t>> device_offsets_, device_positions_;
};

// One state of `floats` floats per sequence, at an offset inside a larger block, all bytes NaN.
class States {
 public:
  States(Device& device, int32_t sequences, int64_t floats);
  StateRows rows() const;                   // of all sequences
  std::byte* base(int32_t sequence) const;  // of one, for a StateRows of some of them
  std::vector<float> get(int32_t sequence) const;
  void set(int32_t sequence, const std::vector<float>& values);

 private:
  static constexpr int64_t kOffset = 192;
  std::byte* at(int32_t sequence) const;
  Device* device_;
  int64_t floats_, stride_;
  Buffer buffer_;
  std::unique_ptr<Array<std::byte*>> bases_;
};

// A weight of `dtype` on the device, and its values after rounding: [rows * cols].
struct Weight {
  Matrix matrix;
  std::vector<float> rounded;
  Weight(Device& device, Random& random, int64_t rows, int64_t cols, DType dtype);
};

// `values` as `dtype` holds them.
std::vector<float> rounded_to(DType dtype, const std::vector<float>& values);

// What a quantized matrix holds: [rows * cols].
std::vector<float> dequantized(const QuantizedRows& rows);

// x transpose(w) + bias, row after row, and what an output's error is measured against: the sum of
// its terms' magnitudes. No bias: zeros.
struct Products {
  std::vector<double> sums, sizes;
};
Products products(const std::vector<float>& x, const std::vector<float>& w, int64_t inputs,
                  const std::vector<float>& bias = {});
// Fails unless each is within tolerance * its size.
void expect_products(const std::vector<float>& got, const Products& want, double tolerance);

// Whether |got - want| <= tolerance * max(1, |want|) for all.
bool all_near(const std::vector<float>& got, const std::vector<double>& want, double tolerance);
// Fails unless |got - want| <= tolerance * max(1, |want|), with the first few offenders.
void expect_near(const std::vector<float>& got, const std::vector<double>& want, double tolerance,
                 const std::string& what);
// Fails unless the bits are the same.
void expect_same_bits(const std::vector<float>& got, const std::vector<float>& want,
                      const std::string& what);

}  // namespace trireme::contract
