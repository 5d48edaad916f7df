// Matrix products by cuBLASLt. It sees columns where we see rows: y transposed, [outputs, rows], is
// w transposed, [outputs, inputs], times x, [inputs, rows].
#include <array>
#include <bit>
#include <cstdint>
#include <map>
#include <optional>

#include <cublasLt.h>
#include <fmt/format.h>

#include "kernels/cuda/gemm.h"

namespace trireme::cuda {
namespace {

// What cuBLAS recommends for Hopper.
constexpr size_t kWorkspaceBytes = size_t{32} << 20;
// Prefill chunks come in many sizes; beyond this many shapes the oldest choices are made anew.
constexpr size_t kChoicesMax = 4096;

cudaDataType_t data_type(WeightType type) {
  switch (type) {
    case WeightType::kBF16:
      return CUDA_R_16BF;
    case WeightType::kF16:
      return CUDA_R_16F;
    case WeightType::kFp8:
      return CUDA_R_8F_E4M3;
    default:
      return CUDA_R_32F;
  }
}

// The power of two that an address is a multiple of, up to 256.
uint32_t alignment(const void* data) {
  const auto address = reinterpret_cast<uintptr_t>(data);
  return uint32_t{1} << std::min(8, std::countr_zero(address | 256));
}

class Descriptor {
 public:
  Descriptor() {
    ok_ = cublasLtMatmulDescInit(&desc_, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS;
    set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
  }
  // Of fp8: y[r][o] is multiplied by x[r] * w[o].
  void scale(const float* w, const float* x) {
    set(CUBLASLT_MATMUL_DESC_A_SCALE_MODE, CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F);
    set(CUBLASLT_MATMUL_DESC_B_SCALE_MODE, CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F);
    set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, w);
    set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, x);
  }
  bool ok() const { return ok_; }
  cublasLtMatmulDesc_t get() { return &desc_; }

 private:
  template <class T>
  void set(cublasLtMatmulDescAttributes_t what, T value) {
    ok_ = ok_ && cublasLtMatmulDescSetAttribute(&desc_, what, &value, sizeof value) ==
                     CUBLAS_STATUS_SUCCESS;
  }

  cublasLtMatmulDescOpaque_t desc_;
  bool ok_ = false;
};

// A column-major matrix.
class Layout {
 public:
  Layout(cudaDataType_t type, int64_t rows, int64_t cols, int64_t stride) {
    ok_ = cublasLtMatrixLayoutInit(&layout_, type, static_cast<uint64_t>(rows),
                                   static_cast<uint64_t>(cols), stride) == CUBLAS_STATUS_SUCCESS;
  }
  bool ok() const { return ok_; }
  cublasLtMatrixLayout_t get() { return &layout_; }

 private:
  cublasLtMatrixLayoutOpaque_t layout_;
  bool ok_ = false;
};

class CublasGemm final : public Gemm {
 public:
  CublasGemm(cublasLtHandle_t handle, void* workspace) : handle_(handle), workspace_(workspace) {}
  ~CublasGemm() override {
    (void)cublasLtDestroy(handle_);
    (void)cudaFree(workspace_);
  }

  bool multiply(Context& context, const Product& p) override {
    const cudaDataType_t type = data_type(p.type);
    Descriptor product;
    if (p.x_scales != nullptr) product.scale(p.w_scales, p.x_scales);
    Layout w(type, p.inputs, p.outputs, p.w_stride), x(type, p.inputs, p.rows, p.x_stride);
    Layout y(data_type(WeightFormat(p.y_type).type), p.outputs, p.rows, p.y_stride);
    if (!product.ok() || !w.ok() || !x.ok() || !y.ok()) return false;
    std::optional<cublasLtMatmulAlgo_t>& algorithm = choose(p, product, w, x, y);
    if (!algorithm) return false;
    const float one = 1.0f, zero = 0.0f;
    const cublasStatus_t status = cublasLtMatmul(
        handle_, product.get(), &one, p.w, w.get(), p.x, x.get(), &zero, p.y, y.get(), p.y, y.get(),
        &*algorithm, workspace_, kWorkspaceBytes, context.stream());
    if (status == CUBLAS_STATUS_NOT_SUPPORTED) {  // after all
      algorithm.reset();
      return false;
    }
    if (status != CUBLAS_STATUS_SUCCESS) {
      context.note(
          unavailable(fmt::format("cuBLAS failed to multiply [{}, {}] by [{}, {}]: {}", p.rows,
                                  p.inputs, p.outputs, p.inputs, cublasLtGetStatusString(status))));
    }
    return true;
  }

 private:
  using Key = std::array<int64_t, 12>;

  // Asking the heuristics takes tens of microseconds: once for each shape.
  std::optional<cublasLtMatmulAlgo_t>& choose(const Product& p, Descriptor& product, Layout& w,
                                              Layout& x, Layout& y) {
    const Key key{static_cast<int64_t>(p.type),
                  static_cast<int64_t>(p.y_type),
                  p.rows,
                  p.inputs,
                  p.outputs,
                  p.w_stride,
                  p.x_stride,
                  p.y_stride,
                  alignment(p.w),
                  alignment(p.x),
                  alignment(p.y),
                  p.x_scales != nullptr ? 1 : 0};
    if (const auto found = choices_.find(key); found != choices_.end()) return found->second;
    if (choices_.size() >= kChoicesMax) choices_.clear();
    return choices_[key] = ask(p, product, w, x, y);
  }

  std::optional<cublasLtMatmulAlgo_t> ask(const Product& p, Descriptor& product, Layout& w,
                                          Layout& x, Layout& y) {
    cublasLtMatmulPreferenceOpaque_t preference;
    if (cublasLtMatmulPreferenceInit(&preference) != CUBLAS_STATUS_SUCCESS) return std::nullopt;
    const uint64_t workspace = kWorkspaceBytes;
    const uint32_t w_bytes = alignment(p.w), x_bytes = alignment(p.x), y_bytes = alignment(p.y);
    const auto set = [&](cublasLtMatmulPreferenceAttributes_t what, const auto& value) {
      return cublasLtMatmulPreferenceSetAttribute(&preference, what, &value, sizeof value) ==
             CUBLAS_STATUS_SUCCESS;
    };
    if (!set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace) ||
        !set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, w_bytes) ||
        !set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, x_bytes) ||
        !set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, y_bytes) ||
        !set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, y_bytes))
      return std::nullopt;
    cublasLtMatmulHeuristicResult_t best{};
    int found = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        handle_, product.get(), w.get(), x.get(), y.get(), y.get(), &preference, 1, &best, &found);
    if (status != CUBLAS_STATUS_SUCCESS || found == 0) return std::nullopt;
    return best.algo;
  }

  cublasLtHandle_t handle_;
  void* workspace_;
  std::map<Key, std::optional<cublasLtMatmulAlgo_t>> choices_;
};

}  // namespace

Result<std::unique_ptr<Gemm>> make_gemm() {
  void* workspace = nullptr;
  if (Status s = cuda_status(cudaMalloc(&workspace, kWorkspaceBytes), "allocating for cuBLAS");
      !s.ok())
    return s;
  cublasLtHandle_t handle = nullptr;
  if (const cublasStatus_t status = cublasLtCreate(&handle); status != CUBLAS_STATUS_SUCCESS) {
    (void)cudaFree(workspace);
    return unavailable(fmt::format("cuBLAS does not start: {}", cublasLtGetStatusString(status)));
  }
  return std::unique_ptr<Gemm>(std::make_unique<CublasGemm>(handle, workspace));
}

}  // namespace trireme::cuda
