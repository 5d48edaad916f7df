// What CUDA threads of the emulator have begun and not yet waited for: tensor_core.h and barriers.h
// begin and end it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <vector>

namespace trireme::emulator {

// A thread's copies from global to shared memory.
struct AsyncCopies {
  struct Copy {
    void* to;
    const void* from;  // null: zeros
    int bytes;
    // What a block that runs ahead of the kernels before it has read, perhaps before they wrote.
    std::optional<std::array<std::byte, 16>> read;
  };
  using Group = std::vector<Copy>;
  Group open;
  std::deque<Group> groups;  // committed, the oldest first
  // Copies that nobody waits for, but barriers that are told when they have arrived.
  struct Announced {
    Group copies;
    std::function<void()> tell;
  };
  std::deque<Announced> announced;
};

// A warp's products of a warp group.
struct AsyncProducts {
  struct Product {
    std::function<void()> operands_are_the_same;  // as when the product began
    std::vector<float> a, b;                      // [rows][depth], [depth][columns]
    int columns;
    std::vector<float*> sums;   // of each lane
    std::vector<float> before;  // what the sums were; none where another product precedes this one
    bool adds;                  // to the sums
  };
  using Group = std::vector<Product>;
  int warp = 0;  // of the block
  Group open;
  std::deque<Group> groups;
};

}  // namespace trireme::emulator
