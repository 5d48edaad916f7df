// The communicator's contract, kept for tensors of GPUs over NCCL, and for tensors of the host
// beside them: over emulated GPUs and a NCCL of threads anywhere, over GPUs and libnccl where a
// machine has two of them or more.
#include <algorithm>
#include <chrono>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "tests/contract/comm/rank_threads.h"
#include "tests/support/nccl_gpus.h"

namespace trireme {
namespace {

using std::chrono::milliseconds;

struct NcclCase {
  bool emulated;
  int ranks;
  CommunicatorClause clause;
};
void PrintTo(const NcclCase& c, std::ostream* out) {
  *out << c.clause.name << " with " << c.ranks << (c.emulated ? " emulated" : "") << " GPUs";
}

NcclOptions options_of(const NcclCase& c) {
  NcclOptions options;
  options.check_messages = true;
  // A clause that sends what is not received waits that long in the end.
  const bool unreceived =
      std::string_view(c.clause.name) == "a_message_of_the_wrong_size_is_an_error";
  options.finish_deadline = milliseconds(unreceived ? 50 : 20'000);
  // Where ranks do not wait for one core, what hangs is told of before the suite's time is over.
  if (!c.emulated) options.connect_deadline = options.work_deadline = milliseconds(20'000);
  return options;
}

class NcclContract : public testing::TestWithParam<NcclCase> {};

TEST_P(NcclContract, Holds) {
  const NcclCase& c = GetParam();
  auto gpus = c.emulated ? test::emulate_nccl_gpus() : test::find_nccl_gpus().take();
  for (const bool on_device : {true, false}) {
    if (!on_device && c.ranks != 2) continue;  // those go straight to the control communicator
    const auto answers =
        test::run_gpu_ranks(*gpus, c.ranks, options_of(c), [&](test::GpuRank& rank) {
          ContractSite site{rank.world};
          if (on_device) {
            site.device = &rank.device;
            site.sums_in_rank_order = false;
          }
          return c.clause.run(site);
        });
    for (size_t r = 0; r < answers.size(); ++r)
      EXPECT_TRUE(answers[r].ok()) << "rank " << r << ": " << answers[r].message();
    EXPECT_EQ(gpus->complaints(), "");
  }
}

std::vector<NcclCase> cases(bool emulated, int gpus) {
  std::vector<NcclCase> all;
  for (int ranks = 1; ranks <= std::min(gpus, 4); ++ranks)
    for (const CommunicatorClause& clause : communicator_contract())
      all.push_back({emulated, ranks, clause});
  return all;
}

std::vector<NcclCase> cases_on_gpus() {
  const auto gpus = test::find_nccl_gpus();
  return gpus.ok() ? cases(false, (*gpus)->count()) : std::vector<NcclCase>();
}

std::string case_name(const testing::TestParamInfo<NcclCase>& c) {
  return std::to_string(c.param.ranks) + "_" + c.param.clause.name;
}

INSTANTIATE_TEST_SUITE_P(Emulated, NcclContract, testing::ValuesIn(cases(true, 4)), case_name);
INSTANTIATE_TEST_SUITE_P(Gpus, NcclContract, testing::ValuesIn(cases_on_gpus()), case_name);

}  // namespace
}  // namespace trireme
