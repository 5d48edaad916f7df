// Models whose large matrices are quantized as they are loaded: near the golden, as near as the
// format is; and the laws of other models. Any chunking, any number of stages and threads give the
// same bytes, shards give the same numbers but for the order of sums, and so do emulated GPUs.
#include <algorithm>
#include <cmath>
#include <ostream>

#include <gtest/gtest.h>

#include "kernels/cpu/features.h"
#include "tests/golden/golden.h"

namespace trireme::test {
namespace {

struct Case {
  std::string golden;
  WeightType type;
  bool shards = true;  // whether it is wide enough to be cut
};
// How far logits may be from the golden's, in root mean squares of both. A weight of these models
// is as wrong as its format rounds: 0.7 % (int8), 2.7 % (fp8), 9 % (int4) of its size.
double distance_max(WeightType type) {
  return type == WeightType::kInt8 ? 0.05 : type == WeightType::kFp8 ? 0.15 : 0.5;
}
std::string type_name(WeightType type) {
  return type == WeightType::kInt8 ? "int8" : type == WeightType::kInt4 ? "int4" : "fp8";
}
void PrintTo(const Case& c, std::ostream* stream) {
  *stream << c.golden << " in " << type_name(c.type);
}

RankOptions options_of(const Golden& golden, const Case& c, Mesh mesh) {
  RankOptions options = options_for(golden, mesh);
  options.quantization = c.type;
  return options;
}

class QuantizedGolden : public testing::TestWithParam<Case> {};

TEST_P(QuantizedGolden, IsAsNearAsItsFormat) {
  const Golden golden = read_golden(GetParam().golden);
  const std::vector<float> logits = score(golden, options_of(golden, GetParam(), {1, 1}));
  const std::vector<float> plain = score(golden, options_for(golden, {1, 1}));
  double missed = 0, all = 0;
  for (size_t i = 0; i < plain.size(); ++i) {
    missed += (logits[i] - plain[i]) * (logits[i] - plain[i]);
    all += plain[i] * plain[i];
  }
  const double far = std::sqrt(missed / all);
  RecordProperty("distance", std::to_string(far));
  EXPECT_LE(far, distance_max(GetParam().type));
  EXPECT_GE(far, 1e-3) << "little was quantized";
}

TEST_P(QuantizedGolden, GivesTheSameBytesHoweverItRuns) {
  const Golden golden = read_golden(GetParam().golden);
  const std::vector<float> whole = score(golden, options_of(golden, GetParam(), {1, 1}));
  for (const uint32_t chunk : {1u, 7u})
    EXPECT_EQ(whole, score(golden, options_of(golden, GetParam(), {1, 1}), chunk)) << chunk;
  RankOptions threaded = options_of(golden, GetParam(), {1, 1});
  threaded.threads = 2;
  EXPECT_EQ(whole, score(golden, threaded)) << "two threads";
  for (const std::string isa : {"scalar", "avx2"}) {
    RankOptions other = options_of(golden, GetParam(), {1, 1});
    other.isa = isa;
    if (isa == "avx2" && !isa_supported(Isa::kAvx2)) continue;
    EXPECT_EQ(whole, score(golden, other, 5)) << isa;
  }
  for (const Mesh mesh : meshes_of(golden)) {
    if (mesh.shards > 2 || (mesh.shards > 1 && !GetParam().shards)) continue;
    const std::vector<float> cut = score(golden, options_of(golden, GetParam(), mesh), 7);
    if (mesh.shards == 1) {
      EXPECT_EQ(whole, cut) << "pp " << mesh.stages;
    } else {
      EXPECT_LE(largest_difference(whole, cut), kTolerance) << "tp " << mesh.shards;
    }
  }
}

TEST_P(QuantizedGolden, EmulatedGpuIsNear) {
  const Golden golden = read_golden(GetParam().golden);
  const std::vector<float> cpu = score(golden, options_of(golden, GetParam(), {1, 1}));
  RankOptions gpu = options_of(golden, GetParam(), {1, 1});
  gpu.isa = "emulated";
  // Rows are rounded to f16 there.
  EXPECT_LE(largest_difference(cpu, score(golden, gpu, 24)), 2e-2f);
}

std::string case_name(const testing::TestParamInfo<Case>& info) {
  std::string name = info.param.golden + "_" + type_name(info.param.type);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(All, QuantizedGolden,
                         testing::Values(Case{"rwkv7-three-heads", WeightType::kInt8},
                                         Case{"rwkv7-three-heads", WeightType::kInt4},
                                         Case{"rwkv4-tiny", WeightType::kInt4},
                                         Case{"rwkv4-tiny", WeightType::kFp8},
                                         Case{"llama-mha", WeightType::kInt8, false},
                                         Case{"qwen3", WeightType::kInt4},
                                         Case{"yoco-swa-tiny", WeightType::kInt4},
                                         Case{"yoco-gret-tiny", WeightType::kFp8}),
                         case_name);

}  // namespace
}  // namespace trireme::test
