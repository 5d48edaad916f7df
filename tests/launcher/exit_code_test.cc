// The contract between statuses and the shell.
#include "launcher/exit_code.h"

#include <gtest/gtest.h>

namespace trireme {
namespace {

int code(StatusCode status, Doing doing) { return exit_code(Status(status, "x"), doing); }

TEST(ExitCode, DependsOnWhatWasDone) {
  const struct {
    StatusCode status;
    int configuring, loading, running;
  } cases[] = {
      {StatusCode::kInvalidArgument, 2, 5, 2},   {StatusCode::kNotFound, 2, 5, 1},
      {StatusCode::kDataLoss, 2, 5, 1},          {StatusCode::kUnimplemented, 2, 5, 1},
      {StatusCode::kResourceExhausted, 3, 3, 3}, {StatusCode::kUnavailable, 6, 6, 6},
      {StatusCode::kDeadlineExceeded, 7, 7, 7},  {StatusCode::kCancelled, 130, 130, 130},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(status_code_name(c.status));
    EXPECT_EQ(code(c.status, Doing::kConfiguring), c.configuring);
    EXPECT_EQ(code(c.status, Doing::kLoadingModel), c.loading);
    EXPECT_EQ(code(c.status, Doing::kRunning), c.running);
  }
  EXPECT_EQ(exit_code(Status{}, Doing::kRunning), 0);
}

}  // namespace
}  // namespace trireme
