// The goldens on a CUDA device, and the CUDA device beside the CPU: emulated on any host for one
// golden of each kind of state and attention (emulated threads are slow), on a GPU where there is
// one for all. And shards and stages on GPUs of their own with NCCL between them, where there are
// two or more, or on emulated ones. The Row law is not promised there, so that equality is within a
// tolerance:
//
//   fp32   2e-4 of logits with deviation 1: other orders of summing
//   bf16   tensor cores round activations to the weights' format, about as much as the weights
//          themselves were rounded. So the CPU's own distance from the golden, at the same weights,
//          is the measure, whatever the family: so much three times
#include <algorithm>
#include <cmath>
#include <ostream>

#include <gtest/gtest.h>

#include "runtime/engine/generator.h"
#include "tests/golden/golden.h"
#include "tests/support/cuda_gpu.h"

namespace trireme::test {
namespace {

constexpr float kFloatTolerance = 2e-4f;
constexpr float kRoundings = 3;
// Products of many rows round those to bf16, which moves logits of these models by a few
// thousandths, also where the weights were bf16 all along and the CPU misses nothing.
constexpr float kRowRounding = 2e-2f;

struct Case {
  std::string golden;
  std::string isa;  // as RankOptions has it
  bool slow() const { return isa == "emulated"; }
};
void PrintTo(const Case& c, std::ostream* stream) { *stream << c.golden << " on " << c.isa; }

RankOptions options_of(const Golden& golden, const std::string& isa, std::optional<DType> dtype) {
  RankOptions options = options_for(golden, {1, 1});
  options.isa = isa;
  options.dtype = dtype;
  // The device's part alone is compared: rounded keys and values would add to it on both sides.
  options.cache_dtype = DType::kF32;
  return options;
}

class CudaGolden : public testing::TestWithParam<Case> {};

TEST_P(CudaGolden, LogitsMatch) {
  const Golden golden = read_golden(GetParam().golden);
  const RankOptions options = options_of(golden, GetParam().isa, std::nullopt);
  for (const uint32_t chunk : {0u, 7u}) {
    EXPECT_LE(max_difference(golden, score(golden, options, chunk)), kFloatTolerance)
        << "chunk " << chunk;
  }
}

TEST_P(CudaGolden, Bf16WeightsMissAsMuchAsOnTheCpu) {
  const Golden golden = read_golden(GetParam().golden);
  const float cpu = max_difference(golden, score(golden, options_of(golden, "", DType::kBF16)));
  const RankOptions options = options_of(golden, GetParam().isa, DType::kBF16);
  for (const uint32_t chunk : {0u, 7u}) {
    if (chunk == 0 && GetParam().slow()) continue;
    EXPECT_LE(max_difference(golden, score(golden, options, chunk)),
              std::max(kRoundings * cpu, kRowRounding))
        << "the CPU misses by " << cpu << "; chunk " << chunk;
  }
}

class CudaEqualsCpu : public testing::TestWithParam<Case> {};

// Four sequences of different lengths in the same steps: whole, in chunks, token by token.
TEST_P(CudaEqualsCpu, LogitsOfRaggedBatches) {
  const Golden golden = read_golden(GetParam().golden);
  const size_t n = std::min<size_t>(golden.tokens.size(), GetParam().slow() ? 12 : 40);
  std::vector<std::vector<int32_t>> sequences;
  for (size_t i = 0; i < 4; ++i) {
    std::vector<int32_t> tokens(golden.tokens.begin(),
                                golden.tokens.begin() + static_cast<std::ptrdiff_t>(n - 2 * i));
    std::rotate(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(3 * i % tokens.size()),
                tokens.end());
    sequences.push_back(tokens);
  }
  for (const std::optional<DType> dtype : {std::optional<DType>(), std::optional(DType::kBF16)}) {
    RankOptions cpu = options_of(golden, "", dtype), gpu = cpu;
    gpu.isa = GetParam().isa;
    cpu.rows_max = gpu.rows_max = static_cast<int64_t>(4 * n);
    const auto want = score_sequences(golden.path, cpu, sequences, 0);
    ASSERT_TRUE(want.ok()) << want.status().message();
    const float rounding =
        dtype ? std::max(kRoundings *
                             max_difference(golden, score(golden, options_of(golden, "", dtype))),
                         kRowRounding)
              : 0;
    for (const uint32_t chunk : {0u, 5u, 1u}) {
      const auto got = score_sequences(golden.path, gpu, sequences, chunk);
      ASSERT_TRUE(got.ok()) << got.status().message();
      for (size_t i = 0; i < sequences.size(); ++i) {
        EXPECT_LE(largest_difference((*got)[i], (*want)[i]), rounding + kFloatTolerance)
            << (dtype ? "bf16" : "fp32") << ", sequence " << i << ", chunk " << chunk;
      }
    }
  }
}

struct Generated {
  std::vector<std::vector<int32_t>> tokens;
  uint64_t replayed = 0;  // steps
  std::string failure;    // of recording
};

Generated generate(const Golden& golden, RankOptions options) {
  options.tokens_max = 64;
  options.sequences_max = 4;
  std::vector<GenerateRequest> requests(5);
  for (size_t i = 0; i < requests.size(); ++i) {
    for (size_t t = 0; t < 1 + 9 * i % 16; ++t)
      requests[i].prompt.push_back(static_cast<int32_t>(3 + (11 * t + 5 * i) % 40));
    requests[i].params.temperature = 0.0f;
    requests[i].params.max_tokens = 6 + static_cast<uint32_t>(5 * i % 8);
    requests[i].params.ignore_eos = true;
  }
  Generated generated;
  const Status status = run_ranks(golden.path, options, [&](Rank& rank) -> Status {
    GeneratorOptions generator_options;
    generator_options.budget = {16, 4, 7, true};
    generator_options.tokens_max = options.tokens_max;
    Generator generator(rank.executor, rank.world, rank.groups, requests, generator_options);
    if (Status s = generator.run([](size_t, int32_t) { return false; }); !s.ok()) return s;
    if (rank.world.rank() != 0) return Status::ok_status();
    for (const GeneratedSequence& s : generator.results()) generated.tokens.push_back(s.tokens);
    if (const RecordedSteps* steps = rank.executor.recorded_steps(); steps != nullptr) {
      generated.replayed = steps->counts().replayed;
      generated.failure = steps->counts().failure;
    }
    return Status::ok_status();
  });
  EXPECT_TRUE(status.ok()) << status.message();
  return generated;
}

// Prompts in chunks beside decodes, five requests in four places, recorded steps.
TEST_P(CudaEqualsCpu, GreedyTokensOfRecordedSteps) {
  const Golden golden = read_golden(GetParam().golden);
  const Generated cpu = generate(golden, options_of(golden, "", std::nullopt));
  const Generated gpu = generate(golden, options_of(golden, GetParam().isa, std::nullopt));
  EXPECT_EQ(gpu.tokens, cpu.tokens);
  EXPECT_GT(gpu.replayed, 0u) << gpu.failure;
}

// ---- more than one GPU ----

struct MeshCase {
  std::string golden;
  Mesh mesh;
  bool emulated;
};
void PrintTo(const MeshCase& c, std::ostream* stream) {
  *stream << c.golden << (c.emulated ? " emulated" : "") << " at tp " << c.mesh.shards << " pp "
          << c.mesh.stages;
}

class NcclMesh : public testing::TestWithParam<MeshCase> {
 protected:
  void SetUp() override {
    gpus_ = GetParam().emulated ? emulate_nccl_gpus() : find_nccl_gpus().take();
  }
  void TearDown() override { EXPECT_EQ(gpus_->complaints(), ""); }

  RankOptions options(std::optional<DType> dtype) const {
    RankOptions options = options_of(golden_, "", dtype);
    options.mesh = GetParam().mesh;
    options.gpus = gpus_.get();
    return options;
  }

  const Golden golden_ = read_golden(GetParam().golden);
  std::unique_ptr<NcclGpus> gpus_;
};

TEST_P(NcclMesh, LogitsEqualTheCpus) {
  for (const std::optional<DType> dtype : {std::optional<DType>(), std::optional(DType::kBF16)}) {
    const std::vector<float> want = score(golden_, options_of(golden_, "", dtype));
    const float rounding =
        dtype ? std::max(kRoundings * max_difference(golden_, want), kRowRounding) : 0;
    for (const uint32_t chunk : {0u, 7u}) {
      // Rounding and chunks are CudaGolden's; here it is the ranks that are new, and they are slow.
      if ((dtype || chunk == 0) && GetParam().emulated) continue;
      EXPECT_LE(largest_difference(score(golden_, options(dtype), chunk), want),
                rounding + kFloatTolerance)
          << (dtype ? "bf16" : "fp32") << ", chunk " << chunk;
    }
  }
}

// Decode steps are recorded with the collectives in them.
TEST_P(NcclMesh, GreedyTokensOfRecordedSteps) {
  const Generated cpu = generate(golden_, options_of(golden_, "", std::nullopt));
  const Generated gpu = generate(golden_, options(std::nullopt));
  EXPECT_EQ(gpu.tokens, cpu.tokens);
  EXPECT_GT(gpu.replayed, 0u) << gpu.failure;
}

std::string case_name(const testing::TestParamInfo<Case>& parameter) {
  std::string name = parameter.param.golden;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

std::vector<Case> emulated() {
  std::vector<Case> cases;
  for (const char* name : {"llama-bias", "qwen3", "qwen2-swa-partial", "rwkv4-tiny", "rwkv7-tiny",
                           "yoco-gret-tiny", "yoco-swa-tiny"})
    cases.push_back({name, "emulated"});
  return cases;
}

std::vector<Case> on_gpu() {
  std::vector<Case> cases;
  if (!find_gpu().ok()) return cases;
  for (const std::string& name : golden_names()) cases.push_back({name, "cuda"});
  return cases;
}

std::string mesh_case_name(const testing::TestParamInfo<MeshCase>& parameter) {
  const auto& [golden, mesh, emulated] = parameter.param;
  std::string name = golden;
  std::replace(name.begin(), name.end(), '-', '_');
  return name + "_tp" + std::to_string(mesh.shards) + "_pp" + std::to_string(mesh.stages);
}

// Of more than one rank, at most as many as there are GPUs.
std::vector<MeshCase> mesh_cases(const std::vector<std::string>& names, bool emulated, int gpus) {
  std::vector<MeshCase> cases;
  for (const std::string& name : names) {
    for (const Mesh mesh : meshes_of(read_golden(name)))
      if (mesh.size() > 1 && mesh.size() <= gpus) cases.push_back({name, mesh, emulated});
  }
  return cases;
}

std::vector<MeshCase> meshes_on_gpus() {
  const auto gpus = find_nccl_gpus();
  if (!gpus.ok()) return {};
  return mesh_cases(golden_names(), false, (*gpus)->count());
}

INSTANTIATE_TEST_SUITE_P(Emulated, CudaGolden, testing::ValuesIn(emulated()), case_name);
INSTANTIATE_TEST_SUITE_P(Emulated, CudaEqualsCpu, testing::Values(Case{"llama-tied", "emulated"}),
                         case_name);
INSTANTIATE_TEST_SUITE_P(Gpu, CudaGolden, testing::ValuesIn(on_gpu()), case_name);
INSTANTIATE_TEST_SUITE_P(Gpu, CudaEqualsCpu, testing::ValuesIn(on_gpu()), case_name);
INSTANTIATE_TEST_SUITE_P(Emulated, NcclMesh,
                         testing::ValuesIn(mesh_cases({"rwkv7-tiny", "yoco-swa-tiny"}, true, 2)),
                         mesh_case_name);
INSTANTIATE_TEST_SUITE_P(EmulatedFour, NcclMesh, testing::ValuesIn(mesh_cases({"qwen3"}, true, 4)),
                         mesh_case_name);
INSTANTIATE_TEST_SUITE_P(Gpus, NcclMesh, testing::ValuesIn(meshes_on_gpus()), mesh_case_name);

}  // namespace
}  // namespace trireme::test
