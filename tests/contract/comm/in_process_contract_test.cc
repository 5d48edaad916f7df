// The communicator's contract, kept by ranks that are threads.
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "comm/in_process/in_process.h"
#include "tests/contract/comm/communicator_contract.h"

namespace trireme {

void PrintTo(const CommunicatorClause& clause, std::ostream* out) { *out << clause.name; }

namespace {

using Case = std::tuple<int, CommunicatorClause>;

class InProcessContract : public testing::TestWithParam<Case> {};

TEST_P(InProcessContract, Holds) {
  const auto& [size, clause] = GetParam();
  auto ranks = make_in_process_world(size);
  std::vector<Status> answers(ranks.size());
  std::vector<std::thread> threads;
  for (size_t r = 0; r < ranks.size(); ++r) {
    threads.emplace_back(
        [&answers, r, run = clause.run, rank = std::move(ranks[r])] { answers[r] = run(*rank); });
  }
  for (std::thread& thread : threads) thread.join();
  for (size_t r = 0; r < answers.size(); ++r)
    EXPECT_TRUE(answers[r].ok()) << "rank " << r << ": " << answers[r].message();
}

INSTANTIATE_TEST_SUITE_P(Ranks, InProcessContract,
                         testing::Combine(testing::Values(1, 2, 3, 4),
                                          testing::ValuesIn(communicator_contract().begin(),
                                                            communicator_contract().end())),
                         [](const testing::TestParamInfo<Case>& c) {
                           return std::to_string(std::get<0>(c.param)) + "_" +
                                  std::get<1>(c.param).name;
                         });

}  // namespace
}  // namespace trireme
