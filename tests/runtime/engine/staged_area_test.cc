// What the host writes for a step is what that step's work reads, however far the host is ahead of
// the device, on a device that does nothing until it is waited for.
#include "runtime/engine/staged_area.h"

#include <gtest/gtest.h>

#include "kernels/cuda/cuda_device.h"

namespace trireme {
namespace {

TEST(StagedArea, OnTheHostTheDeviceReadsWhereTheHostWrites) {
  const std::unique_ptr<Device> device = make_checked_device(make_ref_device());
  StagedArea area;
  const auto bytes = area.add<std::byte>(3);
  const auto numbers = area.add<int32_t>(5);
  const auto pointers = area.add<std::byte*>(2);
  EXPECT_EQ(bytes.offset, 0u);
  EXPECT_EQ(numbers.offset, 64u);
  EXPECT_EQ(pointers.offset, 128u);
  ASSERT_TRUE(area.allocate(*device).ok());
  for (int step = 0; step < 3; ++step) {
    ASSERT_TRUE(area.begin().ok());
    EXPECT_EQ(area.host(numbers), area.device(numbers));
    area.host(numbers)[4] = step;
    area.upload(192);
    EXPECT_EQ(area.device(numbers)[4], step);
  }
}

// Each step's work copies what it sees to a place of its own; nobody waits until the end but
// begin(), for the step before the last.
TEST(StagedArea, EachStepSeesItsOwnNumbers) {
  constexpr int kSteps = 7;
  const std::unique_ptr<Device> device = make_checked_device(make_cuda_device({}).take());
  StagedArea area;
  const auto first = area.add<int32_t>(100);
  const auto second = area.add<int32_t>(50);
  ASSERT_TRUE(area.allocate(*device).ok());
  const int32_t* const address = area.device(second);
  const Buffer seen = device->allocate_pinned(kSteps * sizeof(int32_t)).take();
  auto* const numbers = static_cast<int32_t*>(seen.data());
  for (int step = 1; step <= kSteps; ++step) {
    ASSERT_TRUE(area.begin().ok());
    area.host(first)[0] = -1;
    area.host(second)[49] = step;
    area.upload(second.offset + 50 * sizeof(int32_t));
    EXPECT_EQ(area.device(second), address) << "recorded steps need it where it was";
    device->copy(numbers + step - 1, area.device(second) + 49, sizeof(int32_t));
  }
  EXPECT_NE(numbers[kSteps - 1], kSteps) << "nobody has waited for the last step";
  ASSERT_TRUE(device->synchronize().ok());
  for (int step = 1; step <= kSteps; ++step) EXPECT_EQ(numbers[step - 1], step);
}

}  // namespace
}  // namespace trireme
