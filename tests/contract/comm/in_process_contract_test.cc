// The communicator's contract, kept by ranks that are threads.
#include <memory>

#include <gtest/gtest.h>

#include "comm/in_process/in_process.h"
#include "tests/contract/comm/rank_threads.h"

namespace trireme {
namespace {

class InProcessContract : public testing::TestWithParam<ContractCase> {};

TEST_P(InProcessContract, Holds) {
  const auto& [size, clause] = GetParam();
  expect_all_ok(make_in_process_world(size),
                [run = clause.run](const std::unique_ptr<Communicator>& rank) {
                  ContractSite site{*rank};
                  return run(site);
                });
}

INSTANTIATE_TEST_SUITE_P(Ranks, InProcessContract, contract_cases(), contract_case_name);

}  // namespace
}  // namespace trireme
