// Quantized matrices with made-up elements, and models that are made of them.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <utility>

#include "kernels/device.h"

namespace trireme::bench {

// A matrix of `format`, which is quantized, whose elements are normal numbers of deviation 1/64.
// The same rows again and again: what is timed does not care, and packing them takes the host long.
Result<Matrix> make_up_matrix(Device& device, int64_t rows, int64_t cols, WeightFormat format);

// `inner`, but for its matrices: they are of `format` and made up, whatever is asked for and
// written to them, except for those of `rows_kept` rows, the embedding and the head, which
// checkpoints leave as they were. So a model loads from any checkpoint and has quantized weights.
class QuantizingDevice final : public Device {
 public:
  // `inner` outlives it.
  QuantizingDevice(Device& inner, WeightFormat format, int64_t rows_kept)
      : inner_(inner), format_(format), rows_kept_(rows_kept) {}

  // The model is there: frees what its matrices were copied from.
  void loaded() { made_.clear(); }

  // By how much its matrices are smaller than those that were asked for, in all.
  uint64_t bytes_saved() const { return bytes_saved_; }

  std::string_view name() const override { return inner_.name(); }
  Place place() const override { return inner_.place(); }
  int threads() const override { return inner_.threads(); }
  Ops& ops() override { return inner_.ops(); }
  DeviceSampler* sampler() override { return inner_.sampler(); }
  void* queue() override { return inner_.queue(); }
  DeviceMemory memory() const override { return inner_.memory(); }
  Result<Buffer> allocate(size_t bytes) override { return inner_.allocate(bytes); }
  Result<Buffer> allocate_pinned(size_t bytes) override { return inner_.allocate_pinned(bytes); }
  void copy(void* target, const void* source, size_t bytes) override {
    inner_.copy(target, source, bytes);
  }
  Status synchronize() override { return inner_.synchronize(); }
  uint64_t mark() override { return inner_.mark(); }
  Status wait(uint64_t mark) override { return inner_.wait(mark); }
  bool can_record() const override { return inner_.can_record(); }
  Result<std::unique_ptr<Recording>> record(const std::function<Status()>& work) override {
    return inner_.record(work);
  }
  void replay(Recording& recording) override { inner_.replay(recording); }

  Result<Matrix> make_matrix(int64_t rows, int64_t cols, WeightFormat format) override;
  void write_rows(Matrix& matrix, int64_t first_row, ConstTensorView source) override {
    if (!matrix.format.quantized()) inner_.write_rows(matrix, first_row, source);
  }
  void write_quantized_rows(Matrix& matrix, int64_t first_row,
                            const QuantizedView& source) override {
    inner_.write_quantized_rows(matrix, first_row, source);
  }

 private:
  Device& inner_;
  WeightFormat format_;
  int64_t rows_kept_;
  uint64_t bytes_saved_ = 0;
  std::map<std::pair<int64_t, int64_t>, Matrix> made_;  // one of each shape, to copy from
};

}  // namespace trireme::bench
