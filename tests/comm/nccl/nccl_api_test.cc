// The loader of NCCL: a whole table, or one sentence. Whether this machine has NCCL decides which.
#include "comm/nccl/nccl_api.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace trireme {
namespace {

TEST(NcclApi, IsWholeOrAbsent) {
  const Result<NcclApi> api = load_nccl();
  if (!api.ok()) {
    EXPECT_EQ(api.status().code(), StatusCode::kUnavailable);
    EXPECT_NE(api.status().message().find("libnccl.so.2"), std::string::npos);
    return;
  }
  EXPECT_NE(api->comm_init_rank_config, nullptr);
  EXPECT_NE(api->receive, nullptr);
  int version = 0;
  EXPECT_EQ(api->get_version(&version), kNcclSuccess);
  EXPECT_GE(version, kNcclVersionMin);
}

// A path that is not there is no reason to give up; a library without NCCL's functions is.
TEST(NcclApi, APathThatHasNoNccl) {
  const std::vector<std::string> nothing = {"/nonexistent/libnccl.so.2"};
  EXPECT_EQ(load_nccl(nothing).ok(), load_nccl().ok());
  const std::vector<std::string> another = {"libdl.so.2"};
  const Result<NcclApi> api = load_nccl(another);
  ASSERT_FALSE(api.ok());
  EXPECT_EQ(api.status().message(),
            "NCCL 0.0.0 is too old (it has no ncclGetVersion): 2.19.0 or newer is needed");
}

TEST(NcclApi, Versions) { EXPECT_EQ(nccl_version_text(22809), "2.28.9"); }

}  // namespace
}  // namespace trireme
