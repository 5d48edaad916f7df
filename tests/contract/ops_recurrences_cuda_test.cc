// What the CUDA backend promises of its recurrences beyond the suite of all backends:
//   - a step may be filled up with rows and sequences that are not there, as a recorded one is:
//   rows
//     at or beyond offsets[sequences] belong to no sequence, and no state learns of them;
//   - chunks lie on multiples of 8 positions, so that a prompt that is cut there, into pieces of 16
//     rows or more, gives the same bits as the whole.
#include <algorithm>
#include <cmath>

#include "tests/contract/ops_recurrence_cases.h"

namespace trireme::contract {
namespace {

std::vector<DeviceCase> cuda_cases() {
  std::vector<DeviceCase> cases = device_cases();
  std::erase_if(cases, [](const DeviceCase& c) { return c.isa != "emulated" && c.isa != "cuda"; });
  return cases;
}

class CudaRecurrences : public testing::TestWithParam<DeviceCase> {
 protected:
  States states_of(const RecurrenceCase& recurrence, Random& random, size_t count) {
    States states(*device_, static_cast<int32_t>(count), recurrence.state_floats());
    for (size_t s = 0; s < count; ++s) {
      std::vector<float> values(static_cast<size_t>(recurrence.state_floats()));
      for (float& x : values) x = std::abs(random.normal());
      states.set(static_cast<int32_t>(s), values);
    }
    return states;
  }
  void expect_padding_is_nothing(RecurrenceCase& recurrence, const std::vector<RunSpec>& runs,
                                 int32_t padding);
  std::vector<float> in_pieces(RecurrenceCase& recurrence, int32_t first,
                               const std::vector<int32_t>& pieces);

  std::unique_ptr<Device> device_ = make_device(GetParam());
};

INSTANTIATE_TEST_SUITE_P(Devices, CudaRecurrences, testing::ValuesIn(cuda_cases()), case_name);

std::vector<std::unique_ptr<RecurrenceCase>> all_cases() {
  std::vector<std::unique_ptr<RecurrenceCase>> cases;
  cases.push_back(shift_mix_case(64, 2));
  cases.push_back(wkv4_case(40, 1, Inputs::kPlain));
  for (int dim : {24, 64}) cases.push_back(wkv7_case(1, dim, Inputs::kPlain));
  for (int dim : {24, 128}) cases.push_back(retention_case(1, dim, Inputs::kPlain));
  return cases;
}

// The last run is the padding: it has rows in every tensor, and no sequence.
void CudaRecurrences::expect_padding_is_nothing(RecurrenceCase& recurrence,
                                                const std::vector<RunSpec>& runs, int32_t padding) {
  SCOPED_TRACE(recurrence.name());
  const uint64_t seed = 2700;
  Random random(seed);
  const auto sequences = static_cast<int32_t>(runs.size());
  std::vector<RunSpec> filled = runs;
  filled.push_back({0, padding});
  const Batch batch(*device_, filled);
  Ragged rows = batch.ragged();
  rows.sequences = sequences;
  States states = states_of(recurrence, random, filled.size());
  std::vector<std::vector<float>> before;
  for (int32_t s = 0; s <= sequences; ++s) before.push_back(states.get(s));
  recurrence.draw(*device_, random, batch.rows(), false);
  Mat out(*device_, batch.rows(), recurrence.out_cols(), 8);
  const std::vector<float> untouched = out.values();
  recurrence.run(device_->ops(), 0, rows, states.rows(), out.view());
  out.fetch();
  const std::vector<float> got = out.values();
  const auto real = static_cast<std::ptrdiff_t>(batch.offset(sequences) * recurrence.out_cols());
  Values want;
  for (int32_t s = 0; s < sequences; ++s) {
    const auto n = static_cast<size_t>(s);
    Values state(before[n].begin(), before[n].end());
    if (runs[n].first == 0) state = recurrence.empty_state();
    recurrence.walk(batch.offset(s), batch.offset(s + 1), state, want);
    if (runs[n].rows == 0) {
      expect_same_bits(states.get(s), before[n], "an empty run's state");
    } else {
      expect_near(states.get(s), state, recurrence.tolerance(), "state " + std::to_string(s));
    }
  }
  expect_same_bits(states.get(sequences), before.back(), "the state after the last");
  expect_near({got.begin(), got.begin() + real}, want, recurrence.tolerance(), "outputs");
  expect_same_bits({got.begin() + real, got.end()}, {untouched.begin() + real, untouched.end()},
                   "outputs of padding");
}

TEST_P(CudaRecurrences, PaddingIsNothing) {
  for (const auto& recurrence : all_cases()) {
    // Decode, recorded for five sequences, of which two have ended.
    expect_padding_is_nothing(*recurrence, {{5, 1}, {0, 1}, {9, 1}, {3, 0}, {0, 0}}, 2);
    expect_padding_is_nothing(*recurrence, {{3, 19}, {0, 1}, {0, 16}, {7, 0}}, 11);
    expect_padding_is_nothing(*recurrence, {{3, 0}, {0, 0}}, 40);
  }
}

// Outputs and the state of one sequence whose rows come in pieces. The inputs are the same whatever
// the pieces.
std::vector<float> CudaRecurrences::in_pieces(RecurrenceCase& recurrence, int32_t first,
                                              const std::vector<int32_t>& pieces) {
  Random random(2800);
  int32_t total = 0;
  for (const int32_t rows : pieces) total += rows;
  States states = states_of(recurrence, random, 1);
  recurrence.draw(*device_, random, total, false);
  Mat out(*device_, total, recurrence.out_cols());
  int32_t done = 0;
  for (const int32_t rows : pieces) {
    const Batch batch(*device_, {RunSpec{first + done, rows}});
    recurrence.run(device_->ops(), done, batch.ragged(), states.rows(),
                   out.view().row_range(done, rows));
    done += rows;
  }
  out.fetch();
  std::vector<float> all = out.values();
  const std::vector<float> state = states.get(0);
  all.insert(all.end(), state.begin(), state.end());
  return all;
}

TEST_P(CudaRecurrences, CutsAtMultiplesOf8DoNotShow) {
  std::vector<std::unique_ptr<RecurrenceCase>> cases;
  cases.push_back(wkv7_case(1, 64, Inputs::kPlain));
  cases.push_back(retention_case(1, 64, Inputs::kPlain));
  for (const auto& recurrence : cases) {
    for (int32_t first : {0, 13}) {
      SCOPED_TRACE(testing::Message() << recurrence->name() << " from " << first);
      const int32_t to_grid = first % 8 == 0 ? 0 : 8 - first % 8;
      const std::vector<float> whole = in_pieces(*recurrence, first, {90});
      expect_same_bits(in_pieces(*recurrence, first, {to_grid + 16, 32, 42 - to_grid}), whole,
                       "three pieces");
      expect_same_bits(in_pieces(*recurrence, first, {to_grid + 64, 26 - to_grid}), whole,
                       "two pieces");
    }
  }
}

}  // namespace
}  // namespace trireme::contract
