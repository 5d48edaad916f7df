// What counts as a misspelling.
#include "runtime/config/nearest.h"

#include <gtest/gtest.h>

namespace trireme {
namespace {

constexpr std::string_view kWords[] = {"tensor_parallel_size", "pipeline_parallel_size", "seed",
                                       "isa"};

TEST(Nearest, FindsMisspeltWords) {
  EXPECT_EQ(nearest("tensor_paralel_size", kWords), "tensor_parallel_size");
  EXPECT_EQ(nearest("tensorparallelsize", kWords), "tensor_parallel_size");
  EXPECT_EQ(nearest("sede", kWords), "seed");  // a swap counts one
  EXPECT_EQ(nearest("iso", kWords), "isa");
  EXPECT_EQ(nearest("seed", kWords), "seed");
}

TEST(Nearest, LeavesOtherWordsAlone) {
  EXPECT_EQ(nearest("temperature", kWords), "");
  EXPECT_EQ(nearest("", kWords), "");
  EXPECT_EQ(nearest(std::string(100'000, 'x'), kWords), "");
  EXPECT_EQ(nearest("seed", {}), "");
}

TEST(Nearest, DidYouMean) {
  EXPECT_EQ(did_you_mean("sed", kWords), " (did you mean 'seed'?)");
  EXPECT_EQ(did_you_mean("quantization", kWords), "");
}

}  // namespace
}  // namespace trireme
