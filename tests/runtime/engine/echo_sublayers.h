// Sublayers that compute nothing: each writes who passed, sequence, life, token and position, into
// its bytes of the cache, and looks at each step whether everything that it may read there is what
// the truth says. A wrong block table, window, reuse, preemption, offset or row then shows as a
// sentence, without floating point.
//
// What a row of the residual stream holds: [sequence, life, token, position, sublayers that added].
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/model/sublayers/sublayer.h"

namespace trireme::test {

inline constexpr int64_t kEchoCols = 5;  // of x
inline constexpr int64_t kEchoSideCols = 4;
inline constexpr uint32_t kEchoCellBytes = 16;  // of a per-token row in the cache

// What the sublayers compare with; the test owns it and keeps it up to date.
struct EchoTruth {
  struct Sequence {
    uint32_t life = 0;  // counts how often it began again: cells of a former life are wrong
    std::vector<uint32_t> tokens;
  };
  std::vector<Sequence> sequences;
  std::vector<uint32_t> step;  // the sequence of each run of the step

  // What went wrong; the first few suffice.
  void error(std::string sentence);
  std::vector<std::string> errors;
  uint64_t cells_checked = 0, states_checked = 0, rows_checked = 0;
};

struct EchoOptions {
  uint32_t sublayer = 0;       // its index, written into its cells
  uint32_t window_tokens = 0;  // what it may see, whatever the StateView says
  uint32_t blocks_total = 0;   // of its class: a table entry beyond is an error, not a crash
};

// Growth::kPerToken: writes each row's cell, checks all cells that the row may see.
std::unique_ptr<Sublayer> make_echo_attention(EchoTruth& truth, const EchoOptions& options);
// Growth::kFixed: a hash of all tokens so far and their count. Adds 1 to the last column of x.
std::unique_ptr<Sublayer> make_echo_state(EchoTruth& truth, const EchoOptions& options);
// YOCO's three: x to side, side to cells, cells checked by the rows that are left. The last gets
// the index of the sublayer that stores.
std::unique_ptr<Sublayer> make_echo_make_shared(EchoTruth& truth);
std::unique_ptr<Sublayer> make_echo_store_shared(EchoTruth& truth, const EchoOptions& options);
std::unique_ptr<Sublayer> make_echo_shared_attention(EchoTruth& truth, const EchoOptions& options);

// Whether row `row` of x belongs to `sequence` at `position`; else an error.
bool check_echo_row(EchoTruth& truth, const TensorView& x, int64_t row, uint32_t sequence,
                    uint32_t position);

}  // namespace trireme::test
