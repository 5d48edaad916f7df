// What the next product of one row will read, for the L2 cache to fetch while a norm or attention
// between them computes and memory would idle.
//
// A kernel cannot know what comes after it, but a step of decode runs the same products in the same
// order every time: the second time a product is queued, the one that followed it the first time
// is told to it, and recorded with it. Nothing depends on it but time: whatever L2 was asked for in
// vain is as if it had not been.
//
// Who calls it: ops/stream.cu, which asks for these rows once a block has asked for all of its own;
// the device, when a copy is queued (a step ends, and the order of products with it) and when
// memory is freed.
#pragma once

#include <cstdint>
#include <unordered_map>

namespace trireme::cuda {

// Rows of a matrix that are not all side by side, so that the product finds some in L2 and some in
// memory at a time: pieces of `rows_each` rows that lie side by side, `stride` bytes from each to
// the next.
struct AheadRows {
  const void* from = nullptr;
  int64_t stride = 0;
  int32_t row_bytes = 0;  // a multiple of 16, as the addresses are
  int32_t rows_each = 0;
  int32_t rows = 0;  // in all
};

inline constexpr int kAheadMost = 9;  // of one launch: its matrices, one of them gated
struct Ahead {
  AheadRows each[kAheadMost];
  int32_t count = 0;
};

// Device memory that anything ahead might point into has been freed. From any thread.
void memory_was_freed();

class ReadAhead {
 public:
  explicit ReadAhead(int64_t bytes = 0) : bytes_(bytes) {}

  // How much a product may be asked for ahead; 0: nothing is learned or said.
  int64_t bytes() const { return bytes_; }
  // The product of `weights` is queued, of which one before it may ask for `own`. Returns what it
  // may ask for itself: nothing until it has been seen to be followed by something.
  Ahead follow(const void* weights, const Ahead& own);
  // The next product does not follow the last one.
  void step_ends() { last_ = nullptr; }

 private:
  struct Product {
    Ahead own;
    const void* next = nullptr;
  };
  int64_t bytes_;
  uint64_t freed_ = 0;
  const void* last_ = nullptr;
  std::unordered_map<const void*, Product> products_;
};

}  // namespace trireme::cuda
