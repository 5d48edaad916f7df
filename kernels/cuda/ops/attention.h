// What the kernels of attention share on the host: their arguments and how they are queued. Each is
// a file of its own, attention_*.cu; attention.cu chooses.
#pragma once

#include <cstdint>
#include <type_traits>

#include <cuda_runtime.h>

#include "kernels/base/check.h"
#include "kernels/cuda/attention_choice.h"
#include "kernels/cuda/context.h"
#include "kernels/cuda/formats.h"
#include "kernels/cuda/launch.h"
#include "kernels/ops.h"

namespace trireme::cuda {

// What a decode step's attention does first where rope_attend() is one kernel: q is rotated as it
// is read; the rotated key of each row, and its value, are stored at the row's position.
struct Rotation {
  bool wanted = false;  // or nothing of all this
  const float* cos_sin = nullptr;
  int64_t cos_sin_stride = 0;
  int32_t half = 0;  // pairs of a head that are rotated; none: cos_sin is not looked at
  bool interleaved = false;
  const float* k = nullptr;  // null: nothing is stored
  int64_t k_stride = 0;
  const float* v = nullptr;
  int64_t v_stride = 0;
  // RMS norms over heads before that; null: none.
  const float* q_gain = nullptr;
  const float* k_gain = nullptr;
  float epsilon = 0;
};

struct AttendArgs {
  const float* q;
  int64_t q_stride;
  float* out;
  int64_t out_stride;
  Ragged rows;
  KvView cache;
  float scale;
  int32_t heads;
  int32_t group;  // query heads of a kv head
  // No kernel that may still run has stored positions before the first row's of a run: they can be
  // read before previous_done().
  bool older_settled;
  Rotation rotation = {};
  bool overlaps = true;  // the kernel may begin before those before it have ended
  LeftOut left = {};     // of out; only where kernels that leave rows compute all of it
};

// Where parts of a tile leave what they found, to be joined: of each part of each line of the
// launch (find_line of device/tiles.cuh) the sums of weighted values [head_dim], and the score that
// they are relative to with the sum of the weights.
struct Partials {
  float* sums = nullptr;
  float* largest_and_total = nullptr;  // [..., 2]
  unsigned* ended = nullptr;           // [tiles, kv heads], where Tiling::joins: parts that have
};

inline dim3 tile_grid(const AttendArgs& args, const Tiling& tiling) {
  return {static_cast<unsigned>(tiling.tiles), static_cast<unsigned>(args.cache.kv_heads),
          static_cast<unsigned>(tiling.parts)};
}

// The lines of a launch, as find_line of device/tiles.cuh numbers them.
inline dim3 line_grid(const AttendArgs& args, const Tiling& tiling) {
  const bool of_short_runs = tiling.order == Tiles::kOfShortRuns;
  return {
      static_cast<unsigned>(of_short_runs ? args.rows.sequences * kShortRunLines : args.rows.rows),
      static_cast<unsigned>(of_short_runs ? args.cache.kv_heads : args.heads)};
}

// f(the size of a head that tensor cores have a kernel for, as a type).
template <class F>
void dispatch_head_dim(int32_t head_dim, F f) {
  switch (head_dim) {
    case 64:
      return f(std::integral_constant<int, 64>{});
    case 80:
      return f(std::integral_constant<int, 80>{});
    case 96:
      return f(std::integral_constant<int, 96>{});
    case 128:
      return f(std::integral_constant<int, 128>{});
    case 256:
      return f(std::integral_constant<int, 256>{});
    default:
      CHECK(false) << "no kernel for heads of " << head_dim << " elements";
  }
}

// f(a number of the cache's format, the size of a head, whether the device has memory for the small
// layout only), as types. Layout<T, D, kSmall>::kBytes is what a block needs.
template <template <class, int, bool> class Layout, class F>
void dispatch_layout(const Context& context, const KvView& cache, F f) {
  dispatch_16_bits(cache.dtype, [&](auto zero) {
    dispatch_head_dim(cache.head_dim, [&](auto dim) {
      using T = decltype(zero);
      constexpr int kDim = decltype(dim)::value;
      constexpr size_t kBytes = Layout<T, kDim, false>::kBytes;
      if constexpr (kBytes > kSharedBytesLeast) {
        static_assert(Layout<T, kDim, true>::kBytes <= kSharedBytesLeast);
        if (kBytes > context.shared_bytes_max()) return f(zero, dim, std::true_type{});
      }
      f(zero, dim, std::false_type{});
    });
  });
}

void attend_plain(Context& context, const AttendArgs& args);
void attend_fma(Context& context, const AttendArgs& args, const Tiling& tiling, Partials partials);
void attend_decode(Context& context, const AttendArgs& args, const Tiling& tiling,
                   Partials partials);
void attend_prefill(Context& context, const AttendArgs& args, const Tiling& tiling,
                    Partials partials);
// On devices of sm_90, where the library was compiled for sm_90a.
void attend_hopper(Context& context, const AttendArgs& args, const Tiling& tiling,
                   Partials partials);
void attend_merge(Context& context, const AttendArgs& args, const Tiling& tiling,
                  Partials partials);

}  // namespace trireme::cuda
