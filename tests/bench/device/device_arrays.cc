#include "tests/bench/device/device_arrays.h"

#include <algorithm>
#include <utility>

namespace trireme::bench {
namespace {

constexpr size_t kMadeBytes = size_t{16} << 20;  // on the host; copied on from there

}  // namespace

Status Arena::make(Device& device, size_t bytes) {
  device_ = &device;
  for (Buffer* buffer : {&in_, &out_}) {
    Result<Buffer> made = device.allocate(bytes);
    if (!made.ok()) return made.status();
    *buffer = made.take();
  }
  std::vector<uint16_t> numbers(std::min(kMadeBytes, bytes) / sizeof(uint16_t));
  uint32_t state = 12345;
  for (uint16_t& x : numbers) {
    state = state * 1664525u + 1013904223u;
    x = static_cast<uint16_t>(0x3d00u + (state >> 16) % 0x300u + (state & 0x8000u));
  }
  device.copy(in_.data(), numbers.data(), numbers.size() * sizeof(uint16_t));
  const size_t made = numbers.size() * sizeof(uint16_t);
  for (size_t done = made; done < bytes; done += made) {
    device.copy(static_cast<std::byte*>(in_.data()) + done, in_.data(),
                std::min(made, bytes - done));
  }
  return device.synchronize();
}

void Arena::randomize(std::byte* target, size_t bytes) const {
  for (size_t done = 0; done < bytes; done += in_.bytes())
    device_->copy(target + done, in_.data(), std::min(in_.bytes(), bytes - done));
}

DeviceArrays::~DeviceArrays() {
  (void)device_.synchronize().ok();  // nothing that is queued uses the memory any more
}

std::byte* DeviceArrays::room(size_t bytes) {
  Result<Buffer> buffer = device_.allocate(bytes);
  if (!buffer.ok()) return nullptr;
  buffers_.push_back(buffer.take());
  return static_cast<std::byte*>(buffers_.back().data());
}

std::byte* DeviceArrays::copy(const void* data, size_t bytes) {
  std::byte* target = room(bytes);
  if (target == nullptr) {
    status_ = resource_exhausted("the device has no room for a small array");
    return nullptr;
  }
  device_.copy(target, data, bytes);
  if (Status s = device_.synchronize(); !s.ok()) status_ = s;
  return target;
}

Ragged DeviceArrays::runs(int64_t sequences, int64_t rows, int64_t first) {
  std::vector<int32_t> offsets = {0}, positions;
  for (int64_t s = 0; s < sequences; ++s) {
    for (int64_t r = 0; r < rows; ++r) positions.push_back(static_cast<int32_t>(first + r));
    offsets.push_back(static_cast<int32_t>(positions.size()));
  }
  return {put(offsets), put(positions), static_cast<int32_t>(sequences),
          static_cast<int32_t>(sequences * rows)};
}

StateRows DeviceArrays::states(int64_t sequences, int64_t bytes) {
  std::byte* base = room(static_cast<size_t>(sequences * bytes));
  if (base == nullptr) status_ = resource_exhausted("the device has no room for states");
  std::vector<std::byte*> bases;
  for (int64_t s = 0; s < sequences; ++s)
    bases.push_back(base == nullptr ? nullptr : base + s * bytes);
  return {put(bases), 0};
}

}  // namespace trireme::bench
