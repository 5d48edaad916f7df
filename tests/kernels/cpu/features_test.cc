// Names of instruction sets, and the number of cores that a cgroup grants.
#include "kernels/cpu/features.h"

#include <string>

#include <gtest/gtest.h>

namespace trireme {
namespace {

TEST(Features, NamesParseBackWhereTheMachineHasThem) {
  for (Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512}) {
    const Result<Isa> parsed = parse_isa(isa_name(isa));
    ASSERT_EQ(parsed.ok(), isa_supported(isa));
    if (parsed.ok()) {
      EXPECT_EQ(*parsed, isa);
    } else {
      EXPECT_NE(parsed.status().message().find(isa_name(isa)), std::string::npos);
    }
  }
  EXPECT_TRUE(isa_supported(Isa::kScalar));
  EXPECT_TRUE(isa_supported(best_isa()));
}

TEST(Features, AnUnknownNameIsAnError) {
  const Result<Isa> parsed = parse_isa("sse9");
  ASSERT_FALSE(parsed.ok());
  EXPECT_EQ(parsed.status().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(parsed.status().message().find("sse9"), std::string::npos);
}

TEST(Features, CoresOfCpuMaxRoundUp) {
  EXPECT_EQ(cores_of_cpu_max("200000 100000"), 2);
  EXPECT_EQ(cores_of_cpu_max("150000 100000"), 2);
  EXPECT_EQ(cores_of_cpu_max("50000 100000"), 1);
  for (const char* none : {"max 100000", "", "max", "200000", "x y", "-1 100000", "1 0"}) {
    EXPECT_EQ(cores_of_cpu_max(none), 0) << none;
  }
}

TEST(Features, ThereIsACore) {
  EXPECT_GE(allowed_cores(), 1);
  EXPECT_GE(allowed_core_ids().size(), static_cast<size_t>(allowed_cores()));
}

}  // namespace
}  // namespace trireme
