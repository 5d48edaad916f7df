#include <utility>

#include "kernels/base/check.h"
#include "kernels/checked_ops.h"
#include "kernels/device.h"

namespace trireme {
namespace {

bool is_format(WeightFormat format) {
  if (!format.quantized()) return format.group == 0;
  return format.group == 0 || format.group == 32 || format.group == 64 || format.group == 128;
}

bool is_float(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16;
}

class CheckedDevice final : public Device {
 public:
  explicit CheckedDevice(std::unique_ptr<Device> device)
      : device_(std::move(device)), ops_(&device_->ops(), device_->place()) {}

  std::string_view name() const override { return device_->name(); }
  Place place() const override { return device_->place(); }
  int threads() const override { return device_->threads(); }
  Ops& ops() override { return ops_; }
  DeviceSampler* sampler() override { return device_->sampler(); }
  void* queue() override { return device_->queue(); }
  DeviceMemory memory() const override { return device_->memory(); }
  Result<Buffer> allocate(size_t bytes) override { return device_->allocate(bytes); }
  Result<Buffer> allocate_pinned(size_t bytes) override { return device_->allocate_pinned(bytes); }
  void copy(void* target, const void* source, size_t bytes) override {
    CHECK(bytes == 0 || (target != nullptr && source != nullptr))
        << "copy of " << bytes << " bytes";
    device_->copy(target, source, bytes);
  }
  CopyQueue* copy_queue() override { return device_->copy_queue(); }
  Status synchronize() override {
    CHECK(!recording_) << "synchronize() in what is recorded";
    return device_->synchronize();
  }
  uint64_t mark() override {
    CHECK(!recording_) << "mark() in what is recorded";
    return device_->mark();
  }
  Status wait(uint64_t mark) override {
    CHECK(!recording_) << "wait() in what is recorded";
    return device_->wait(mark);
  }
  bool can_record() const override { return device_->can_record(); }
  Result<std::unique_ptr<Recording>> record(const std::function<Status()>& work) override {
    CHECK(!recording_) << "record() in what is recorded";
    recording_ = true;
    Result<std::unique_ptr<Recording>> recorded = device_->record(work);
    recording_ = false;
    return recorded;
  }
  void replay(Recording& recording) override {
    CHECK(!recording_) << "replay() in what is recorded";
    device_->replay(recording);
  }

  Result<Matrix> make_matrix(int64_t rows, int64_t cols, WeightFormat format) override {
    CHECK(rows >= 0 && cols >= 0 && is_format(format))
        << "make_matrix: [" << rows << ", " << cols << "] of " << weight_format_name(format);
    return device_->make_matrix(rows, cols, format);
  }

  void write_rows(Matrix& matrix, int64_t first_row, ConstTensorView source) override {
    CHECK(source.place == Place::kHost && is_float(source.dtype))
        << "write_rows: the source is " << dtype_name(source.dtype);
    CHECK(!matrix.format.quantized())
        << "write_rows: the matrix is " << weight_format_name(matrix.format);
    check_place("write_rows", matrix, first_row, source.rows, source.cols);
    CHECK(source.rows <= 1 || source.row_stride >= source.cols);
    device_->write_rows(matrix, first_row, source);
  }

  void write_quantized_rows(Matrix& matrix, int64_t first_row,
                            const QuantizedView& source) override {
    CHECK(source.format == matrix.format)
        << "write_quantized_rows: " << weight_format_name(source.format) << " into "
        << weight_format_name(matrix.format);
    check_place("write_quantized_rows", matrix, first_row, source.rows, source.cols);
    CHECK(source.rows <= 1 || (source.code_stride >= source.cols &&
                               source.scale_stride >= source.format.groups(source.cols)));
    device_->write_quantized_rows(matrix, first_row, source);
  }

 private:
  static void check_place(const char* name, const Matrix& matrix, int64_t first_row, int64_t rows,
                          int64_t cols) {
    CHECK(cols == matrix.cols) << name << ": " << cols << " columns into " << matrix.cols;
    CHECK(first_row >= 0 && first_row + rows <= matrix.rows)
        << name << ": rows from " << first_row << ", " << rows << " of them, into " << matrix.rows;
  }

  std::unique_ptr<Device> device_;
  CheckedOps ops_;
  bool recording_ = false;
};

}  // namespace

std::unique_ptr<Device> make_checked_device(std::unique_ptr<Device> device) {
  return std::make_unique<CheckedDevice>(std::move(device));
}

}  // namespace trireme
