#include "tests/runtime/engine/echo_sublayers.h"

#include <cstring>

#include <fmt/format.h>

namespace trireme::test {
namespace {

// A per-token row in the cache.
struct Cell {
  uint32_t sequence = 0;
  uint32_t life_and_sublayer = 0;
  uint32_t token = 0;
  uint32_t position = 0;
  bool operator==(const Cell&) const = default;
};
static_assert(sizeof(Cell) == kEchoCellBytes);

// A fixed state.
struct State {
  uint64_t hash = 0;
  uint32_t count = 0;
  uint32_t sequence = 0;
  uint32_t life_and_sublayer = 0;
  uint32_t padding = 0;
  bool operator==(const State&) const = default;
};

uint32_t tag(uint32_t life, uint32_t sublayer) { return life << 8 | sublayer; }

uint64_t add_to_hash(uint64_t hash, uint32_t token) {
  hash = (hash ^ token) * 0x9e3779b97f4a7c15u;
  return hash ^ hash >> 29;
}

uint32_t number(const float* row, int64_t col) { return static_cast<uint32_t>(row[col]); }

// Calls f(run, row, position) for each row of the step.
template <class F>
void for_rows(const Ragged& rows, F f) {
  for (int32_t s = 0; s < rows.sequences; ++s) {
    for (int32_t r = rows.offsets[s]; r < rows.offsets[s + 1]; ++r)
      f(s, r, static_cast<uint32_t>(rows.positions[r]));
  }
}

class EchoCells : public Sublayer {
 public:
  EchoCells(EchoTruth& truth, const EchoOptions& options) : truth_(truth), options_(options) {}
  bool adds() const override { return false; }
  int64_t scratch_cols() const override { return 0; }

 protected:
  // Where the cell of a position lies; nullptr, with an error, where the table does not lead there.
  std::byte* find(const KvView& kv, int32_t run, uint32_t position) {
    const auto block = static_cast<int64_t>(position) / kv.block_tokens - kv.first_block[run];
    if (block < 0 || block >= kv.table_stride) {
      truth_.error(fmt::format("run {} position {}: entry {} of a table of {}", run, position,
                               block, kv.table_stride));
      return nullptr;
    }
    const int32_t id = kv.block_table[run * kv.table_stride + block];
    if (id < 0 || static_cast<uint32_t>(id) >= options_.blocks_total) {
      truth_.error(fmt::format("run {} position {}: block {}", run, position, id));
      return nullptr;
    }
    return kv.blocks + id * kv.block_stride + position % kv.block_tokens * kEchoCellBytes;
  }

  void write(const KvView& kv, int32_t run, const Cell& cell) {
    if (std::byte* to = find(kv, run, cell.position)) std::memcpy(to, &cell, sizeof cell);
  }

  // Every cell that a row at `position` may see.
  void check_visible(const KvView& kv, int32_t run, uint32_t position) {
    const uint32_t window = options_.window_tokens;
    const uint32_t first = window == 0 || position + 1 < window ? 0 : position + 1 - window;
    const uint32_t sequence = truth_.step[run];
    const EchoTruth::Sequence& s = truth_.sequences[sequence];
    for (uint32_t p = first; p <= position; ++p) {
      const std::byte* from = find(kv, run, p);
      if (from == nullptr) return;
      Cell found;
      std::memcpy(&found, from, sizeof found);
      const Cell expected{sequence, tag(s.life, options_.sublayer), s.tokens[p], p};
      ++truth_.cells_checked;
      if (found == expected) continue;
      truth_.error(fmt::format(
          "sublayer {} row at {} of sequence {}: at {} it sees token {} of {} (tag {:#x}) at {}",
          options_.sublayer, position, sequence, p, found.token, found.sequence,
          found.life_and_sublayer, found.position));
      return;
    }
  }

  EchoTruth& truth_;
  const EchoOptions options_;
};

class EchoAttention final : public EchoCells {
 public:
  using EchoCells::EchoCells;
  Status forward(const ResidualNorm&, SublayerStep& step, TensorView) override {
    const KvView& kv = step.state.kv;
    for_rows(step.batch.rows, [&](int32_t run, int32_t r, uint32_t position) {
      if (!check_echo_row(truth_, step.carry.x, r, truth_.step[run], position)) return;
      const float* x = step.carry.x.f32_row(r);
      write(kv, run,
            {number(x, 0), tag(number(x, 1), options_.sublayer), number(x, 2), number(x, 3)});
    });
    for_rows(step.batch.rows,
             [&](int32_t run, int32_t, uint32_t position) { check_visible(kv, run, position); });
    return Status::ok_status();
  }
};

class EchoStoreShared final : public EchoCells {
 public:
  using EchoCells::EchoCells;
  Status forward(const ResidualNorm&, SublayerStep& step, TensorView) override {
    for_rows(step.batch.rows, [&](int32_t run, int32_t r, uint32_t position) {
      const float* side = step.carry.side.f32_row(r);
      if (number(side, 3) != position) truth_.error("side and rows are out of step");
      write(step.state.kv, run,
            {number(side, 0), tag(number(side, 1), options_.sublayer), number(side, 2),
             number(side, 3)});
    });
    return Status::ok_status();
  }
};

class EchoSharedAttention final : public EchoCells {
 public:
  using EchoCells::EchoCells;
  Status forward(const ResidualNorm&, SublayerStep& step, TensorView) override {
    for_rows(step.batch.rows, [&](int32_t run, int32_t r, uint32_t position) {
      if (!check_echo_row(truth_, step.carry.x, r, truth_.step[run], position)) return;
      check_visible(step.state.kv, run, position);
    });
    return Status::ok_status();
  }
};

class EchoMakeShared final : public Sublayer {
 public:
  explicit EchoMakeShared(EchoTruth& truth) : truth_(truth) {}
  bool adds() const override { return false; }
  int64_t scratch_cols() const override { return 0; }
  Status forward(const ResidualNorm&, SublayerStep& step, TensorView) override {
    for_rows(step.batch.rows, [&](int32_t run, int32_t r, uint32_t position) {
      check_echo_row(truth_, step.carry.x, r, truth_.step[run], position);
      std::memcpy(step.carry.side.f32_row(r), step.carry.x.f32_row(r),
                  kEchoSideCols * sizeof(float));
    });
    return Status::ok_status();
  }

 private:
  EchoTruth& truth_;
};

class EchoState final : public Sublayer {
 public:
  EchoState(EchoTruth& truth, const EchoOptions& options) : truth_(truth), options_(options) {}
  int64_t scratch_cols() const override { return 0; }
  Status forward(const ResidualNorm&, SublayerStep& step, TensorView delta) override {
    const Ragged& rows = step.batch.rows;
    for (int32_t run = 0; run < rows.sequences; ++run) {
      if (rows.offsets[run] == rows.offsets[run + 1]) continue;
      advance(step, run);
    }
    for (int64_t r = 0; r < delta.rows; ++r) {
      std::memset(delta.f32_row(r), 0, static_cast<size_t>(delta.cols) * sizeof(float));
      delta.f32_row(r)[kEchoCols - 1] = 1;
    }
    return Status::ok_status();
  }

 private:
  void advance(SublayerStep& step, int32_t run) {
    const Ragged& rows = step.batch.rows;
    const uint32_t sequence = truth_.step[run];
    const EchoTruth::Sequence& s = truth_.sequences[sequence];
    const auto first = static_cast<uint32_t>(rows.positions[rows.offsets[run]]);
    std::byte* at = step.state.fixed.base[run] + step.state.fixed.offset;
    State state{0, 0, sequence, tag(s.life, options_.sublayer), 0};
    if (first > 0) {  // at 0 it begins anew and does not read
      State expected = state;
      for (uint32_t p = 0; p < first; ++p) expected.hash = add_to_hash(expected.hash, s.tokens[p]);
      expected.count = first;
      std::memcpy(&state, at, sizeof state);
      ++truth_.states_checked;
      if (state != expected) {
        truth_.error(fmt::format(
            "sublayer {}: the state of sequence {} at {} is one of sequence {} after {} tokens",
            options_.sublayer, sequence, first, state.sequence, state.count));
        return;
      }
    }
    for (int32_t r = rows.offsets[run]; r < rows.offsets[run + 1]; ++r) {
      if (!check_echo_row(truth_, step.carry.x, r, sequence,
                          static_cast<uint32_t>(rows.positions[r])))
        return;
      state.hash = add_to_hash(state.hash, number(step.carry.x.f32_row(r), 2));
      ++state.count;
    }
    std::memcpy(at, &state, sizeof state);
  }

  EchoTruth& truth_;
  const EchoOptions options_;
};

}  // namespace

void EchoTruth::error(std::string sentence) {
  if (errors.size() < 8) errors.push_back(std::move(sentence));
}

bool check_echo_row(EchoTruth& truth, const TensorView& x, int64_t row, uint32_t sequence,
                    uint32_t position) {
  ++truth.rows_checked;
  if (row >= x.rows) {
    truth.error(fmt::format("row {} of {}", row, x.rows));
    return false;
  }
  const float* is = x.f32_row(row);
  const EchoTruth::Sequence& s = truth.sequences[sequence];
  if (position < s.tokens.size() && number(is, 0) == sequence && number(is, 1) == s.life &&
      number(is, 2) == s.tokens[position] && number(is, 3) == position)
    return true;
  truth.error(fmt::format("row {} should be sequence {} at {}, and is token {} of {} at {}", row,
                          sequence, position, is[2], is[0], is[3]));
  return false;
}

std::unique_ptr<Sublayer> make_echo_attention(EchoTruth& truth, const EchoOptions& options) {
  return std::make_unique<EchoAttention>(truth, options);
}
std::unique_ptr<Sublayer> make_echo_state(EchoTruth& truth, const EchoOptions& options) {
  return std::make_unique<EchoState>(truth, options);
}
std::unique_ptr<Sublayer> make_echo_make_shared(EchoTruth& truth) {
  return std::make_unique<EchoMakeShared>(truth);
}
std::unique_ptr<Sublayer> make_echo_store_shared(EchoTruth& truth, const EchoOptions& options) {
  return std::make_unique<EchoStoreShared>(truth, options);
}
std::unique_ptr<Sublayer> make_echo_shared_attention(EchoTruth& truth, const EchoOptions& options) {
  return std::make_unique<EchoSharedAttention>(truth, options);
}

}  // namespace trireme::test
