// The communicator's contract, kept for tensors of a GPU over NCCL: emulated GPUs, and a NCCL of
// threads that adds in an order of its own. Tensors of the host go beside them.
#include <chrono>
#include <string_view>

#include <gtest/gtest.h>

#include "tests/comm/nccl/nccl_ranks.h"
#include "tests/contract/comm/rank_threads.h"

namespace trireme {
namespace {

class NcclContract : public testing::TestWithParam<ContractCase> {};

TEST_P(NcclContract, Holds) {
  const auto& [size, clause] = GetParam();
  for (const bool on_device : {true, false}) {
    if (!on_device && size != 2) continue;  // those go straight to the control communicator
    FakeNccl nccl;
    NcclOptions options;
    options.check_messages = true;
    // A clause that sends what is not received waits that long in the end.
    const bool unreceived =
        std::string_view(clause.name) == "a_message_of_the_wrong_size_is_an_error";
    options.finish_deadline = std::chrono::milliseconds(unreceived ? 50 : 20'000);
    const auto answers = run_nccl_ranks(
        size, nccl, [&](int) { return options; },
        [&, run = clause.run](NcclTestRank& rank) {
          ContractSite site{rank.world};
          if (on_device) {
            site.device = &rank.device;
            site.sums_in_rank_order = false;
          }
          return run(site);
        });
    for (size_t r = 0; r < answers.size(); ++r)
      EXPECT_TRUE(answers[r].ok()) << "rank " << r << ": " << answers[r].message();
    EXPECT_EQ(complaints(nccl), "");
    if (!on_device || size == 1) {
      EXPECT_EQ(nccl.made(), 0);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, NcclContract, contract_cases(), contract_case_name);

}  // namespace
}  // namespace trireme
