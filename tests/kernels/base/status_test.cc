#include "kernels/base/status.h"

#include <memory>
#include <set>
#include <string>

#include <gtest/gtest.h>

namespace trireme {
namespace {

TEST(Status, StartsOk) {
  EXPECT_TRUE(Status().ok());
  EXPECT_TRUE(Status::ok_status().ok());
  EXPECT_EQ(Status().message(), "");
}

TEST(Status, KeepsCodeAndMessage) {
  const struct {
    Status status;
    StatusCode code;
    const char* name;
  } all[] = {
      {invalid_argument("m"), StatusCode::kInvalidArgument, "INVALID_ARGUMENT"},
      {not_found("m"), StatusCode::kNotFound, "NOT_FOUND"},
      {resource_exhausted("m"), StatusCode::kResourceExhausted, "RESOURCE_EXHAUSTED"},
      {unavailable("m"), StatusCode::kUnavailable, "UNAVAILABLE"},
      {data_loss("m"), StatusCode::kDataLoss, "DATA_LOSS"},
      {unimplemented("m"), StatusCode::kUnimplemented, "UNIMPLEMENTED"},
      {{StatusCode::kCancelled, "m"}, StatusCode::kCancelled, "CANCELLED"},
      {{StatusCode::kDeadlineExceeded, "m"}, StatusCode::kDeadlineExceeded, "DEADLINE_EXCEEDED"}};
  std::set<std::string_view> names = {status_code_name(StatusCode::kOk)};
  for (const auto& s : all) {
    EXPECT_FALSE(s.status.ok());
    EXPECT_EQ(s.status.code(), s.code);
    EXPECT_EQ(s.status.message(), "m");
    EXPECT_EQ(status_code_name(s.code), s.name);
    EXPECT_TRUE(names.insert(s.name).second);
  }
}

TEST(Status, AtSaysWhereFromTheInsideOut) {
  EXPECT_EQ(not_found("no such key").at("line 3").at("a.yaml").message(),
            "a.yaml: line 3: no such key");
  EXPECT_EQ(not_found("x").at("y").code(), StatusCode::kNotFound);
  EXPECT_TRUE(Status().at("anywhere").ok());
}

TEST(Result, HoldsAValueOrAStatus) {
  Result<std::string> value(std::string("v"));
  ASSERT_TRUE(value.ok());
  EXPECT_EQ(*value, "v");
  EXPECT_EQ(value->size(), 1u);
  EXPECT_TRUE(value.status().ok());
  const Result<std::string> error(not_found("n"));
  EXPECT_FALSE(error.ok());
  EXPECT_EQ(error.status().message(), "n");
}

TEST(Result, TakesMoveOnlyValues) {
  Result<std::unique_ptr<int>> value(std::make_unique<int>(7));
  const std::unique_ptr<int> taken = value.take();
  EXPECT_EQ(*taken, 7);
}

TEST(StatusDeathTest, BrokenPromisesEndTheProgram) {
  const Result<int> error(not_found("the reason"));
  EXPECT_DEATH((void)*error, "CHECK failed: .*the reason");
  EXPECT_DEATH((void)Result<int>{Status()}, "CHECK failed: !status_.ok");
  EXPECT_DEATH((void)Status(StatusCode::kOk, "m"), "CHECK failed");
}

TEST(CheckDeathTest, SaysWhereWhatAndWhy) {
  const int n = 3;
  CHECK(n == 3) << "not evaluated";
  EXPECT_DEATH(CHECK(n == 4) << "n is " << n, "status_test.cc:.*CHECK failed: n == 4 n is 3");
}

TEST(Check, StreamsOnlyWhenItFails) {
  int streamed = 0;
  CHECK(true) << ++streamed;
  EXPECT_EQ(streamed, 0);
  if (streamed == 0)
    CHECK(true);
  else  // belongs to the if above
    streamed = 9;
  EXPECT_EQ(streamed, 0);
}

}  // namespace
}  // namespace trireme
