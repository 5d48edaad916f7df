// Ranks that are threads, for instances of the communicator's contract.
#pragma once

#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "comm/communicator.h"
#include "tests/contract/comm/communicator_contract.h"

namespace trireme {

inline void PrintTo(const CommunicatorClause& clause, std::ostream* out) { *out << clause.name; }

// Runs `rank_main` once for each rank, each in a thread, with the rank's communicator, and expects
// every answer to be ok.
inline void expect_all_ok(std::vector<std::unique_ptr<Communicator>> ranks,
                          const std::function<Status(std::unique_ptr<Communicator>)>& rank_main) {
  std::vector<Status> answers(ranks.size());
  std::vector<std::thread> threads;
  for (size_t r = 0; r < ranks.size(); ++r) {
    threads.emplace_back([&answers, r, &rank_main, rank = std::move(ranks[r])]() mutable {
      answers[r] = rank_main(std::move(rank));
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (size_t r = 0; r < answers.size(); ++r)
    EXPECT_TRUE(answers[r].ok()) << "rank " << r << ": " << answers[r].message();
}

// Every clause at 1 to 4 ranks.
using ContractCase = std::tuple<int, CommunicatorClause>;

inline auto contract_cases() {
  return testing::Combine(
      testing::Values(1, 2, 3, 4),
      testing::ValuesIn(communicator_contract().begin(), communicator_contract().end()));
}
inline std::string contract_case_name(const testing::TestParamInfo<ContractCase>& c) {
  return std::to_string(std::get<0>(c.param)) + "_" + std::get<1>(c.param).name;
}

}  // namespace trireme
