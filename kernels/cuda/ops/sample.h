// The kernels behind CudaSampler: a token from each row of logits, a row's vocabulary shared out to
// blocks.
#pragma once

#include <cstdint>

#include "kernels/cuda/context.h"
#include "kernels/device_sampler.h"

namespace trireme::cuda {

inline constexpr int32_t kSamplePart = 4096;  // tokens of one block
inline constexpr int kSampleBins = 1024;      // of a row's logits
inline constexpr int kSampleListMax = 4096;   // tokens of one bin that are put in order at once

// How a row is chosen from: what edits it, whether chance decides, among how many.
constexpr bool is_edited(const SampleRow& how) { return how.edits > 0 || how.mask >= 0; }
constexpr bool is_drawn(const SampleRow& how) { return how.temperature > 0.0f; }
constexpr bool has_top_k(const SampleRow& how) { return how.top_k >= 1; }
constexpr bool has_top_p(const SampleRow& how) { return how.top_p < 1.0f; }

// The largest of some logits.
struct SampleBest {
  float max, min;  // of what may come at all
  int32_t token;   // of the largest, of equals the lowest; -1: none may come
  int32_t broken;  // whether there was a NaN or +inf
};

// What one block has found in its part of a row.
struct SamplePart {
  SampleBest best;
  unsigned long long weight;  // of the candidates that are surely kept
};

// What is known of a row from kernel to kernel.
struct SampleState {
  int32_t chosen;  // whether its token is known
  int32_t best;
  float max;
  float reach, scale;  // logits further than reach below max weigh nothing; bins per logit
  // Where top_k ends or, once that is known, top_p: in this bin, after `goal` of what it holds, as
  // a count of tokens or as weight. kNoBin: there is no end.
  int32_t bin;
  int32_t by_weight;
  unsigned long long goal;
  int32_t listed;  // tokens of the bin
};

struct SampleCall {
  const float* logits;
  int64_t stride;
  int32_t vocab;
  int32_t parts;          // of a row
  const SampleRow* rows;  // [count]; null: SampleRows has them
  int32_t count;
  const LogitEdit* edits;
  const uint32_t* masks;
  float* edited;       // [count, vocab]: rows after their edits
  SamplePart* part;    // [count, parts]
  SampleState* state;  // [count]
  // Of rows with top_k or top_p, by bins [count, kSampleBins]; zeros before and after.
  unsigned long long* weights;
  unsigned* counts;
  int32_t* lists;   // [count, kSampleListMax]
  int32_t* tokens;  // [count], the host may see it
};

// The largest logit of each row of a part of the vocabulary.
struct BestCall {
  const float* logits;
  int64_t stride;
  int32_t count;               // of rows
  int32_t vocab, first_token;  // of the part, maybe nothing
  int32_t parts;               // of a row, at least one
  SamplePart* part;            // [count, parts]
  BestLogit* best;             // [count]
};

// What kernels launched for a few rows are told at once, without a copy.
inline constexpr int kSampleRowsInCall = 16;
struct SampleRows {
  SampleRow row[kSampleRowsInCall];
};

// `rows` is what call.rows points to on the device or, if that is null, what the kernels get.
void queue_sample(Context& context, SampleCall call, std::span<const SampleRow> rows);
void queue_best(Context& context, const BestCall& call);

}  // namespace trireme::cuda
