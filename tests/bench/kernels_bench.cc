// How near the matrix product comes to what the machine can do: scripts/bench kernels.
//
// Every measurement is followed at once by a measurement of its ceilings with the same threads:
// reading an array of the same size as the weights, and fused multiply-adds in registers. The
// machine may be shared and its speed drift; the ratio of neighbours in time drifts less. The
// figures are medians over repetitions in random order.
//
// Weights lie in one arena of 2.2 GB (a 1.1B model in bf16), far above any cache, and each call
// takes the next matrix in it, as a decode step does.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "kernels/base/random.h"
#include "kernels/base/tensor.h"
#include "kernels/cpu/features.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/thread_pool.h"
#include "tests/bench/ceilings_table.h"

namespace trireme {
namespace {

constexpr size_t kArenaBytes = size_t{2200} << 20;
constexpr int64_t kRowsMax = 512;
constexpr int64_t kColsMax = 32000;

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

const CeilingsTable& ceilings_of(Isa isa) {
#ifdef TRIREME_X86
  if (isa == Isa::kAvx512) return kCeilingsAvx512;
  if (isa == Isa::kAvx2) return kCeilingsAvx2;
#endif
  (void)isa;
  return kCeilingsScalar;
}

// What all measurements share. Lives in main().
class Bench {
 public:
  Bench(int threads, Isa isa_used)
      : pool(threads, true, 0),
        isa(isa_used),
        arena(allocate_host(kArenaBytes)),
        x_bytes(allocate_host(static_cast<size_t>(kRowsMax * kColsMax) * sizeof(float))),
        y_bytes(allocate_host(static_cast<size_t>(kRowsMax * kColsMax) * sizeof(float))),
        x(static_cast<float*>(x_bytes.data())),
        y(static_cast<float*>(y_bytes.data())) {
    // Small finite numbers, whether read as f32, bf16, f16, or codes and their scales; written by
    // whom they belong to.
    auto* words = static_cast<uint32_t*>(arena.data());
    pool.run([&](int worker) {
      const IndexRange part =
          split(static_cast<int64_t>(kArenaBytes / 4), pool.size(), worker, 1 << 20);
      uint32_t state = 12345u + static_cast<uint32_t>(worker);
      for (int64_t i = part.begin; i < part.end; ++i) {
        state = state * 1664525u + 1013904223u;
        words[i] = 0x38003800u | (state & 0x87ff87ffu);
      }
    });
    for (int64_t i = 0; i < kRowsMax * kColsMax; ++i)
      x[i] = static_cast<float>(i % 97) * 0.01f - 0.48f;
  }

  // The next matrix of this shape in the arena.
  WeightView next_matrix(int64_t outputs, int64_t inputs, WeightFormat format) {
    const size_t bytes = packed_bytes(outputs, inputs, format);
    if (arena_at_ + bytes > kArenaBytes) arena_at_ = 0;
    const WeightView w{
        static_cast<std::byte*>(arena.data()) + arena_at_, outputs, inputs, format, {}};
    arena_at_ += (bytes + 4095) / 4096 * 4096;
    return w;
  }

  void multiply(int64_t rows, const WeightView& w) {
    linear(pool, isa, ConstTensorView(x, rows, w.cols, DType::kF32), w, tensor(y, rows, w.rows));
  }

  // Bytes per second with which all workers together read the next `bytes` of the arena.
  double read_speed(size_t bytes, float (*read)(const float*, int64_t)) {
    if (arena_at_ + bytes > kArenaBytes) arena_at_ = 0;
    const auto* p =
        reinterpret_cast<const float*>(static_cast<const std::byte*>(arena.data()) + arena_at_);
    const double begin = now_s();
    pool.run([&](int worker) {
      const IndexRange part = split(static_cast<int64_t>(bytes / 4), pool.size(), worker, 4096);
      benchmark::DoNotOptimize(read(p + part.begin, part.size()));
    });
    const double seconds = now_s() - begin;
    arena_at_ += bytes;
    return static_cast<double>(bytes) / seconds;
  }
  // The better of two ways to read.
  double read_ceiling(size_t bytes) {
    const CeilingsTable& table = ceilings_of(isa);
    const double plain = read_speed(bytes / 2, table.read);
    return std::max(plain, read_speed(bytes / 2, table.read_prefetched));
  }

  // Floating-point operations per second of all workers together, an FMA counting as two.
  double fma_ceiling(int64_t steps) {
    const CeilingsTable& table = ceilings_of(isa);
    const double begin = now_s();
    pool.run([&](int) { benchmark::DoNotOptimize(table.fma(steps, 0.5f)); });
    const double seconds = now_s() - begin;
    return 2.0 * 16.0 * static_cast<double>(table.chains * steps * pool.size()) / seconds;
  }

  ThreadPool pool;
  const Isa isa;
  Buffer arena;
  Buffer x_bytes, y_bytes;
  float* x;  // [kRowsMax * kColsMax]
  float* y;

 private:
  size_t arena_at_ = 0;
};

struct Shape {
  int64_t outputs;
  int64_t inputs;
};

// The matrices of one forward pass.
struct Case {
  std::string shape;
  WeightFormat format;
  int64_t rows;
  std::vector<Shape> matrices;
};

// The 1.1B Llama shape: 22 layers of width 2048, 4 key-value heads of 64, ffn 5632, vocabulary
// 32,000.
std::vector<Shape> llama_1b() {
  std::vector<Shape> all;
  for (int layer = 0; layer < 22; ++layer) {
    for (const Shape& s : {Shape{2048, 2048}, Shape{256, 2048}, Shape{256, 2048}, Shape{2048, 2048},
                           Shape{5632, 2048}, Shape{5632, 2048}, Shape{2048, 5632}}) {
      all.push_back(s);
    }
  }
  all.push_back({32000, 2048});
  return all;
}

std::string name_of(const Case& c) {
  return c.shape + ", " + weight_format_name(c.format) + ", " + std::to_string(c.rows) +
         (c.rows == 1 ? " row" : " rows");
}

void run_case(benchmark::State& state, Bench& bench, const Case& c) {
  double bytes = 0;
  double operations = 0;
  for (auto _ : state) {
    for (const Shape& s : c.matrices) {
      bench.multiply(c.rows, bench.next_matrix(s.outputs, s.inputs, c.format));
      bytes += static_cast<double>(packed_bytes(s.outputs, s.inputs, c.format));
      operations += 2.0 * static_cast<double>(c.rows * s.outputs * s.inputs);
    }
  }
  state.counters["bytes"] = bytes;
  state.counters["operations"] = operations;
  state.counters["read_ceiling"] = bench.read_ceiling(size_t{300} << 20);
  state.counters["fma_ceiling"] = bench.fma_ceiling(2'000'000);
}

// Collects the repetitions; prints the summary at the end.
class Summary : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      if (run.run_type != Run::RT_Iteration) continue;
      const double seconds = run.real_accumulated_time;
      const double read = run.counters.at("read_ceiling").value;
      const double fma = run.counters.at("fma_ceiling").value;
      Samples& s = samples_[run.run_name.function_name];
      s.gbytes.push_back(run.counters.at("bytes").value / seconds * 1e-9);
      s.gflops.push_back(run.counters.at("operations").value / seconds * 1e-9);
      s.of_read.push_back(run.counters.at("bytes").value / seconds / read);
      s.of_fma.push_back(run.counters.at("operations").value / seconds / fma);
      read_.push_back(read * 1e-9);
      fma_.push_back(fma * 1e-9);
    }
  }

  void print(const std::vector<Case>& cases, const Bench& bench) const {
    std::printf(
        "\n%d threads, %s. Ceilings (medians): reading memory %.1f GB/s, fused "
        "multiply-adds %.0f GFLOP/s.\n",
        bench.pool.size(), std::string(isa_name(bench.isa)).c_str(), median(read_), median(fma_));
    std::printf("%-42s %9s %9s %11s %11s %9s\n", "linear: shape, weights, rows", "GB/s", "GFLOP/s",
                "% of read", "% of FMA", "to bf16");
    for (const Case& c : cases) {
      const auto found = samples_.find(name_of(c));
      if (found == samples_.end()) continue;
      const Samples& s = found->second;
      std::printf("%-42s %9.1f %9.1f %10.0f%% %10.0f%%", name_of(c).c_str(), median(s.gbytes),
                  median(s.gflops), 100 * median(s.of_read), 100 * median(s.of_fma));
      Case other = c;
      other.format = DType::kBF16;
      const auto bf16 = samples_.find(name_of(other));
      if (bf16 != samples_.end())
        std::printf(" %8.2fx", median(s.gflops) / median(bf16->second.gflops));
      std::printf("\n");
    }
    sentence("1.1B model, bfloat16, 1 row", "Decode reads weights at", true);
    sentence("1.1B model, bfloat16, 512 rows", "Prefill of 512 rows multiplies at", false);
    double load = 0;
    if (getloadavg(&load, 1) == 1 && load > bench.pool.size() + 1) {
      std::printf(
          "The load average is %.0f: other programs compete for the cores. A product waits for the "
          "last of its threads, so these figures are lower than those of a quiet machine.\n",
          load);
    }
  }

 private:
  struct Samples {
    std::vector<double> gbytes, gflops, of_read, of_fma;
  };
  void sentence(const std::string& name, const char* what, bool read) const {
    const auto found = samples_.find(name);
    if (found == samples_.end()) return;
    std::printf("%s %.0f %% of the measured %s (%s).\n", what,
                100 * median(read ? found->second.of_read : found->second.of_fma),
                read ? "read bandwidth" : "fp32 FMA peak", name.c_str());
  }
  std::map<std::string, Samples> samples_;
  std::vector<double> read_, fma_;
};

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const WeightFormat format :
       {WeightFormat(DType::kBF16), WeightFormat(WeightType::kInt8, 128),
        WeightFormat(WeightType::kInt4, 128), WeightFormat(WeightType::kFp8, 0),
        WeightFormat(DType::kF16), WeightFormat(DType::kF32)}) {
    for (int64_t rows : {1, 4, 16, 64, 512}) {
      if (format.quantized() || format.type == WeightType::kBF16)
        cases.push_back({"1.1B model", format, rows, llama_1b()});
      for (const Shape& s :
           {Shape{2048, 2048}, Shape{5632, 2048}, Shape{2048, 5632}, Shape{32000, 2048}}) {
        const std::string shape = std::to_string(s.outputs) + "x" + std::to_string(s.inputs);
        cases.push_back({shape, format, rows, {s}});
      }
    }
  }
  return cases;
}

}  // namespace
}  // namespace trireme

int main(int argc, char** argv) {
  using namespace trireme;
  const char* threads = std::getenv("TRIREME_BENCH_THREADS");
  const char* isa = std::getenv("TRIREME_BENCH_ISA");
  Bench bench(threads != nullptr ? std::atoi(threads) : allowed_cores(),
              isa != nullptr ? *parse_isa(isa) : best_isa());
  // Defaults first: the user's flags come later and win.
  std::vector<std::string> flags{argv[0], "--benchmark_repetitions=5", "--benchmark_min_time=0.05",
                                 "--benchmark_enable_random_interleaving=true"};
  flags.insert(flags.end(), argv + 1, argv + argc);
  std::vector<char*> pointers;
  for (std::string& flag : flags) pointers.push_back(flag.data());
  int count = static_cast<int>(pointers.size());
  benchmark::Initialize(&count, pointers.data());
  if (benchmark::ReportUnrecognizedArguments(count, pointers.data())) return 1;
  const std::vector<Case> cases = all_cases();
  for (const Case& c : cases) {
    benchmark::RegisterBenchmark(name_of(c).c_str(), [&bench, &c](benchmark::State& state) {
      run_case(state, bench, c);
    })->UseRealTime();
  }
  Summary summary;
  benchmark::RunSpecifiedBenchmarks(&summary);
  summary.print(cases, bench);
  benchmark::Shutdown();
  return 0;
}
