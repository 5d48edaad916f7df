// Models whose logits another implementation computed, as tests read them: tests/golden/README.md.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/thread_ranks.h"

namespace trireme::test {

inline constexpr float kTolerance = 1e-4f;  // of fp32 logits

inline const std::string kGoldens = TRIREME_SOURCE_DIR "/tests/golden/data";

std::vector<std::string> golden_names();

struct Golden {
  std::string path;
  std::vector<int32_t> tokens;
  std::vector<int64_t> rows;    // which rows of logits are there
  std::vector<float> expected;  // [rows, vocab]
};
Golden read_golden(const std::string& name);

// Of `logits` [tokens, vocab] from what is expected; infinite where one is not a number.
float max_difference(const Golden& golden, const std::vector<float>& logits);

// Of two lists of logits, equally long, from each other; infinite where one is not a number.
float largest_difference(const std::vector<float>& a, const std::vector<float>& b);

// The meshes that the model's sizes allow.
std::vector<Mesh> meshes_of(const Golden& golden);

RankOptions options_for(const Golden& golden, Mesh mesh);

// Logits [tokens, vocab], at most `chunk` tokens a step; 0: all at once.
std::vector<float> score(const Golden& golden, const RankOptions& options, uint32_t chunk = 0);

}  // namespace trireme::test
