// What is counted, and when nothing is.
#include "runtime/sample/penalty_state.h"

#include <gtest/gtest.h>

namespace trireme {
namespace {

TEST(PenaltyState, CountsTheOutputAndMarksThePrompt) {
  SamplingParams params;
  params.repetition_penalty = 1.2f;
  PenaltyState state(params, std::vector<int32_t>{7, 3, 7, 9});
  for (int32_t token : {3, 5, 3}) state.add_output(token);
  const auto seen = state.seen();
  ASSERT_EQ(seen.size(), 4u);
  const int32_t tokens[] = {3, 5, 7, 9};
  const uint32_t counts[] = {2, 1, 0, 0};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(seen[i].token, tokens[i]);
    EXPECT_EQ(seen[i].output_count, counts[i]);
    EXPECT_EQ(seen[i].in_prompt, tokens[i] != 5);
  }
  EXPECT_EQ(state.output_tokens(), 3u);
}

TEST(PenaltyState, LeavesThePromptOutWhereOnlyTheOutputCounts) {
  SamplingParams params;
  params.presence_penalty = 0.5f;
  PenaltyState state(params, std::vector<int32_t>{1, 2});
  state.add_output(2);
  ASSERT_EQ(state.seen().size(), 1u);
  EXPECT_EQ(state.seen()[0].token, 2);
}

TEST(PenaltyState, KeepsNothingWithoutPenaltiesButTheLength) {
  PenaltyState state(SamplingParams{}, std::vector<int32_t>{1, 2});
  state.add_output(4);
  EXPECT_TRUE(state.seen().empty());
  EXPECT_EQ(state.output_tokens(), 1u);
}

}  // namespace
}  // namespace trireme
