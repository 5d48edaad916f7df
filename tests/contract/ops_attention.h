// What the suites of attention share: a step, and the comparison with attention_of().
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "tests/contract/ops_cache.h"
#include "tests/contract/ops_tolerance.h"

namespace trireme::contract {

class AttentionOps : public testing::TestWithParam<DeviceCase> {
 protected:
  // Stores all positions of all sequences.
  void store(Cache& cache, const Sequences& all, const std::vector<int32_t>& lengths) {
    std::vector<int32_t> sequences, firsts(lengths.size());
    std::vector<RunSpec> runs;
    for (size_t s = 0; s < lengths.size(); ++s) {
      sequences.push_back(static_cast<int32_t>(s));
      runs.push_back({0, lengths[s]});
    }
    const Batch whole(*device_, runs);
    Mat k = Sequences::rows(*device_, all.k, sequences, whole, 0);
    Mat v = Sequences::rows(*device_, all.v, sequences, whole, 0);
    ops_.store_kv(k.view(), v.view(), whole.ragged(), cache.view(sequences, firsts));
  }

  // Stores the positions of `runs` and attends to them: one step.
  void step(const CacheSpec& spec, Cache& cache, const Sequences& all,
            const std::vector<int32_t>& sequences, const std::vector<RunSpec>& runs) {
    const Batch batch(*device_, runs);
    std::vector<int32_t> first_positions;
    for (const RunSpec& run : runs) first_positions.push_back(run.first);
    const KvView view = cache.view(sequences, first_positions);
    Mat k = Sequences::rows(*device_, all.k, sequences, batch, 5);
    Mat v = Sequences::rows(*device_, all.v, sequences, batch, 11);
    ops_.store_kv(k.view(), v.view(), batch.ragged(), view);
    attend(spec, view, all, sequences, batch);
  }

  void attend(const CacheSpec& spec, const KvView& view, const Sequences& all,
              const std::vector<int32_t>& sequences, const Batch& batch) {
    Mat q = Sequences::rows(*device_, all.q, sequences, batch, 3);
    Mat out(*device_, q.rows(), q.cols(), 2);
    const double scale = 1 / std::sqrt(static_cast<double>(spec.head_dim));
    ops_.attend(q.view(), batch.ragged(), view, static_cast<float>(scale), out.view());
    out.fetch();
    for (int32_t s = 0; s < batch.sequences(); ++s) {
      const AttendRun run{batch.offset(s + 1) - batch.offset(s), batch.rows(), batch.sequences(),
                          static_cast<int32_t>(q.cols() / spec.head_dim)};
      const double tolerance =
          exact_ ? kTolerance : std::max(tolerance_, attend_tolerance(GetParam(), spec, run));
      for (int32_t t = batch.offset(s); t < batch.offset(s + 1); ++t) {
        expect_near(
            out.row(t),
            attention_of(all, spec, sequences[static_cast<size_t>(s)], batch.position(t),
                         static_cast<float>(scale)),
            tolerance,
            "sequence " + std::to_string(s) + " position " + std::to_string(batch.position(t)));
        if (HasFailure()) return;
      }
    }
  }

  static std::vector<int32_t> range(int32_t first, int32_t end) {
    std::vector<int32_t> all;
    for (int32_t p = first; p < end; ++p) all.push_back(p);
    return all;
  }

  bool exact_ = false;    // nothing is rounded to the cache's format
  double tolerance_ = 0;  // where a test needs more than the table gives
  std::unique_ptr<Device> device_ = make_device(GetParam());
  Ops& ops_ = device_->ops();
};

}  // namespace trireme::contract
