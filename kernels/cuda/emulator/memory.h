// The emulated device's memory. Outside of queued work it cannot be touched: a host that reads or
// writes it faults, as it would on a machine with a GPU. Under AddressSanitizer it comes from
// malloc instead, for the red zones around each allocation.
//
// Thread-safe: rank threads share it as they would share one GPU.
#pragma once

#include <cstddef>

namespace trireme::emulator {

void* allocate_device(size_t bytes);  // aligned to 256 bytes, full of 0xff; null: no memory left
bool free_device(void* pointer);      // false: not a pointer that allocate_device gave
bool is_device(const void* pointer);  // inside an allocation
void* allocate_pinned(size_t bytes);
bool free_pinned(void* pointer);
bool is_pinned(const void* pointer);

size_t device_bytes_used();
size_t device_bytes_total();

// While one exists, device memory may be touched.
class Touch {
 public:
  Touch();
  ~Touch();
  Touch(const Touch&) = delete;
  Touch& operator=(const Touch&) = delete;
};

}  // namespace trireme::emulator
