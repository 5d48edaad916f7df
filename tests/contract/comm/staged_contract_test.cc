// The communicator's contract, kept for tensors of a device by staging them through the host, and
// for tensors of the host beside them.
#include <memory>
#include <utility>

#include <gtest/gtest.h>

#include "comm/in_process/in_process.h"
#include "comm/staged/staged.h"
#include "tests/contract/comm/rank_threads.h"
#include "tests/support/queued_device.h"

namespace trireme {
namespace {

class StagedContract : public testing::TestWithParam<ContractCase> {};

TEST_P(StagedContract, Holds) {
  const auto& [size, clause] = GetParam();
  for (const bool on_device : {true, false}) {
    if (!on_device && size != 2) continue;  // those go straight through
    expect_all_ok(make_in_process_world(size), [&, run = clause.run](auto inner) {
      QueuedDevice device;
      const auto rank = make_staged_communicator(std::move(inner), device);
      ContractSite site{*rank, on_device ? &device : nullptr};
      return run(site);
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, StagedContract, contract_cases(), contract_case_name);

}  // namespace
}  // namespace trireme
