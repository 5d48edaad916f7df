// What this GPU can do at best: copying, reading, and multiplying bf16 matrices through cuBLASLt.
// JSON lines; scripts/gpu_check holds every other figure of the run against these.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include <cublasLt.h>
#include <cuda_runtime.h>

namespace {

constexpr size_t kBytes = size_t{2} << 30;  // of each side of a copy: many times any cache
constexpr int64_t kSide = 8192;             // of the matrices
constexpr int kRepetitions = 7;

void check(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "bench_cuda_ceilings: %s failed: %s\n", what,
               cudaGetErrorString(cudaGetLastError()));
  std::exit(1);
}
void check(cudaError_t error, const char* what) { check(error == cudaSuccess, what); }
void check(cublasStatus_t status, const char* what) {
  check(status == CUBLAS_STATUS_SUCCESS, what);
}

// bf16 numbers between 0.03 and 2 in size: products of zeros would be faster than real ones.
__global__ void randomize(uint16_t* numbers, size_t count) {
  for (size_t i = blockIdx.x * size_t{blockDim.x} + threadIdx.x; i < count;
       i += size_t{gridDim.x} * blockDim.x) {
    uint32_t z = static_cast<uint32_t>(i) * 2654435761u;
    z = (z ^ (z >> 15)) * 2246822519u;
    numbers[i] = static_cast<uint16_t>(0x3d00u + (z >> 16) % 0x300u + (z & 0x8000u));
  }
}

__global__ void copy(const uint4* from, uint4* to, size_t count) {
  for (size_t i = blockIdx.x * size_t{blockDim.x} + threadIdx.x; i < count;
       i += size_t{gridDim.x} * blockDim.x)
    to[i] = from[i];
}

__global__ void read(const uint4* from, size_t count, uint32_t* sink) {
  uint32_t sum = 0;
#pragma unroll 4
  for (size_t i = blockIdx.x * size_t{blockDim.x} + threadIdx.x; i < count;
       i += size_t{gridDim.x} * blockDim.x) {
    const uint4 v = from[i];
    sum += v.x ^ v.y ^ v.z ^ v.w;
  }
  if (sum == 0x12345678u) *sink = sum;  // never seen by the compiler to be false
}

// Seconds of one of `calls` calls, the median of some rounds.
template <class F>
double seconds_of(int calls, F f) {
  cudaEvent_t begin, end;
  check(cudaEventCreate(&begin), "making an event");
  check(cudaEventCreate(&end), "making an event");
  f();  // warm
  std::vector<float> samples;
  for (int i = 0; i < kRepetitions; ++i) {
    check(cudaEventRecord(begin), "recording an event");
    for (int c = 0; c < calls; ++c) f();
    check(cudaEventRecord(end), "recording an event");
    check(cudaEventSynchronize(end), "waiting for the GPU");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin, end), "reading an event");
    samples.push_back(ms / 1e3f / static_cast<float>(calls));
  }
  std::sort(samples.begin(), samples.end());
  return samples[kRepetitions / 2];
}

void print(const char* name, double value, double scale, const char* unit, int digits,
           const char* how) {
  std::printf(
      "{\"kind\": \"ceiling\", \"name\": \"%s\", \"value\": %.6g, \"scale\": %g, \"unit\": "
      "\"%s\", \"digits\": %d, \"how\": \"%s\"}\n",
      name, value, scale, unit, digits, how);
  std::fflush(stdout);
}

void measure_memory(uint16_t* a, uint16_t* b, int blocks) {
  const size_t words = kBytes / sizeof(uint4);
  const auto* from = reinterpret_cast<const uint4*>(a);
  auto* to = reinterpret_cast<uint4*>(b);
  const double library = seconds_of(
      5, [&] { check(cudaMemcpyAsync(b, a, kBytes, cudaMemcpyDeviceToDevice), "copying"); });
  const double kernel = seconds_of(5, [&] { copy<<<blocks, 512>>>(from, to, words); });
  const bool kernel_wins = kernel < library;
  print("copy", 2.0 * kBytes / std::min(library, kernel), 1e12, "TB/s", 2,
        kernel_wins ? "2 GiB by a kernel, read and written bytes"
                    : "2 GiB by cudaMemcpy, read and written bytes");
  const double reading =
      seconds_of(5, [&] { read<<<blocks, 512>>>(from, words, reinterpret_cast<uint32_t*>(b)); });
  print("read", kBytes / reading, 1e12, "TB/s", 2, "2 GiB by a kernel");
}

// y [n, n] f32 or bf16 = transpose(w) x, in columns.
double product_seconds(cublasLtHandle_t handle, const uint16_t* x, const uint16_t* w, void* y,
                       void* workspace, size_t workspace_bytes, cudaDataType_t y_type) {
  cublasLtMatmulDesc_t product;
  cublasLtMatrixLayout_t in, out;
  cublasLtMatmulPreference_t preference;
  check(cublasLtMatmulDescCreate(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F), "describing");
  const cublasOperation_t transposed = CUBLAS_OP_T;
  check(cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                       sizeof transposed),
        "describing");
  check(cublasLtMatrixLayoutCreate(&in, CUDA_R_16BF, kSide, kSide, kSide), "describing");
  check(cublasLtMatrixLayoutCreate(&out, y_type, kSide, kSide, kSide), "describing");
  check(cublasLtMatmulPreferenceCreate(&preference), "describing");
  check(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                             &workspace_bytes, sizeof workspace_bytes),
        "describing");
  // The best of what cuBLAS proposes: its first guess is not always that.
  cublasLtMatmulHeuristicResult_t proposed[8];
  int count = 0;
  check(cublasLtMatmulAlgoGetHeuristic(handle, product, in, in, out, out, preference, 8, proposed,
                                       &count),
        "asking cuBLAS");
  const float one = 1, zero = 0;
  double best = 1e9;
  for (int i = 0; i < count; ++i) {
    best = std::min(best, seconds_of(4, [&] {
                      check(cublasLtMatmul(handle, product, &one, w, in, x, in, &zero, y, out, y,
                                           out, &proposed[i].algo, workspace, workspace_bytes, 0),
                            "multiplying");
                    }));
  }
  return best;
}

}  // namespace

int main() {
  cudaDeviceProp gpu;
  check(cudaGetDeviceProperties(&gpu, 0), "asking the GPU");
  uint16_t *a = nullptr, *b = nullptr;
  check(cudaMalloc(&a, kBytes), "allocating");
  check(cudaMalloc(&b, kBytes), "allocating");
  randomize<<<gpu.multiProcessorCount * 8, 512>>>(a, kBytes / 2);
  check(cudaDeviceSynchronize(), "filling memory");
  measure_memory(a, b, gpu.multiProcessorCount * 8);

  cublasLtHandle_t handle;
  check(cublasLtCreate(&handle), "opening cuBLAS");
  constexpr size_t kWorkspace = size_t{64} << 20;
  void* workspace = nullptr;
  check(cudaMalloc(&workspace, kWorkspace), "allocating");
  const double flops = 2.0 * kSide * kSide * kSide;
  const uint16_t* w = a + kSide * kSide;
  print("matrix_bf16", flops / product_seconds(handle, a, w, b, workspace, kWorkspace, CUDA_R_16BF),
        1e12, "TFLOP/s", 0, "cuBLASLt, 8192 x 8192 x 8192, bf16 in and out");
  print("matrix_bf16_f32",
        flops / product_seconds(handle, a, w, b, workspace, kWorkspace, CUDA_R_32F), 1e12,
        "TFLOP/s", 0, "the same, f32 out, as Trireme has it");
  return 0;
}
