// attend: chooses kernels (attention_choice.h) and queues them.
#include "kernels/base/check.h"
#include "kernels/cuda/attention_choice.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops/attention.h"

namespace trireme::cuda {
namespace {

// Room for the partial results of a launch; none where nothing is cut into parts, or after an
// error.
Partials make_partials(Context& context, const AttendArgs& args, const Tiling& tiling) {
  if (tiling.parts == 1) return {};
  const dim3 lines = line_grid(args, tiling);
  const int64_t count = int64_t{lines.x} * lines.y * tiling.parts;
  auto* memory = static_cast<float*>(
      context.scratch(static_cast<size_t>(count * (args.cache.head_dim + 2)) * sizeof(float)));
  if (memory == nullptr) return {};
  Partials partials{memory, memory + count * args.cache.head_dim, nullptr};
  if (tiling.joins) {
    partials.ended = context.counters(static_cast<size_t>(tiling.tiles) *
                                      static_cast<size_t>(args.cache.kv_heads));
    if (partials.ended == nullptr) return {};
  }
  return partials;
}

void run(Context& context, const AttendArgs& args, const AttentionLaunch& launch) {
  if (launch.kernel == AttentionKernel::kPlain) return attend_plain(context, args);
  const Partials partials = make_partials(context, args, launch.tiling);
  if (launch.tiling.parts > 1 && partials.sums == nullptr) return;  // the context knows why
  switch (launch.kernel) {
    case AttentionKernel::kFma:
      attend_fma(context, args, launch.tiling, partials);
      break;
    case AttentionKernel::kDecode:
      attend_decode(context, args, launch.tiling, partials);
      break;
    case AttentionKernel::kPrefill:
      attend_prefill(context, args, launch.tiling, partials);
      break;
    case AttentionKernel::kHopper:
      attend_hopper(context, args, launch.tiling, partials);
      break;
    case AttentionKernel::kPlain:
      break;
  }
  if (launch.tiling.parts > 1 && !launch.tiling.joins)
    attend_merge(context, args, launch.tiling, partials);
}

AttendArgs attend_args(const ConstTensorView& q, const Ragged& rows, const KvView& cache,
                       float scale, const TensorView& out) {
  AttendArgs args{};
  args.q = static_cast<const float*>(q.data);
  args.q_stride = q.row_stride;
  args.out = static_cast<float*>(out.data);
  args.out_stride = out.row_stride;
  args.rows = rows;
  args.cache = cache;
  args.scale = scale;
  args.heads = static_cast<int32_t>(q.cols / cache.head_dim);
  args.group = args.heads / cache.kv_heads;
  return args;
}

AttentionShape shape_of(const Context& context, const AttendArgs& args) {
  const KvView& cache = args.cache;
  AttentionShape shape;
  shape.rows = args.rows.rows;
  shape.sequences = args.rows.sequences;
  shape.heads = args.heads;
  shape.kv_heads = cache.kv_heads;
  shape.head_dim = cache.head_dim;
  shape.dtype = cache.dtype;
  shape.aligned =
      reinterpret_cast<uintptr_t>(cache.blocks) % 16 == 0 && cache.block_stride % 16 == 0;
  shape.multiprocessors = context.multiprocessors();
  shape.warp_groups = context.warp_groups();
  shape.shared_bytes_max = static_cast<int64_t>(context.shared_bytes_max());
  return shape;
}

// Whether its kernel writes the output by itself, and in bf16 as well.
bool leaves(const AttentionLaunch& launch) {
  const bool alone = launch.tiling.parts == 1 || launch.tiling.joins;
  return alone && launch.kernel != AttentionKernel::kFma &&
         launch.kernel != AttentionKernel::kPlain;
}

// All launches of an attention, and what they leave.
void queue(Context& context, AttendArgs& args, const AttentionChoice& choice,
           const TensorView& out) {
  const LeftRows left =
      choice.count == 1 && leaves(choice.launches[0]) ? room_for_left(context, out) : LeftRows{};
  args.left = left.out;
  for (int32_t i = 0; i < choice.count; ++i) run(context, args, choice.launches[i]);
  context.leave(left);
}

}  // namespace

void CudaOps::attend(ConstTensorView q, const Ragged& rows, const KvView& cache, float scale,
                     TensorView out) {
  if (rows.rows == 0 || rows.sequences == 0) return;
  AttendArgs args = attend_args(q, rows, cache, scale, out);
  args.older_settled = last_stored_.are(rows);
  queue(context_, args, choose_attention(shape_of(context_, args)), out);
}

// Where blocks wait for others to end, each would take the time for its rows that one kernel takes
// for all: measured on an H200, 64 sequences of 8B parameters at 1024 tokens took 87 us a layer, 76
// without their rows.
void CudaOps::rope_attend(const RopeAttendArgs& args, const Ragged& rows, const KvView& cache,
                          TensorView out) {
  if (rows.rows == 0 || rows.sequences == 0) return;
  AttendArgs attend = attend_args(args.q, rows, cache, args.scale, out);
  const AttentionChoice choice = choose_attention(shape_of(context_, attend));
  const AttentionLaunch& only = choice.launches[0];
  if (choice.count > 1 || only.kernel != AttentionKernel::kDecode ||
      only.tiling.order != Tiles::kOfRows || !only.at_once) {
    return Ops::rope_attend(args, rows, cache, out);
  }
  const auto floats = [](const ConstTensorView& x) {
    return x.rows > 0 ? static_cast<const float*>(x.data) : nullptr;
  };
  attend.rotation = {true,
                     floats(args.cos_sin),
                     args.cos_sin.row_stride,
                     static_cast<int32_t>(args.cos_sin.cols / 2),
                     args.style == RopeStyle::kInterleaved,
                     floats(args.k),
                     args.k.row_stride,
                     floats(args.v),
                     args.v.row_stride,
                     floats(args.q_gain),
                     floats(args.k_gain),
                     args.norm_epsilon};
  if (args.k.rows > 0) attend.overlaps = store_overlaps(rows);
  attend.older_settled = last_stored_.are(rows);
  queue(context_, attend, choice, out);
}

}  // namespace trireme::cuda
