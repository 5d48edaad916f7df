// Half a layer: attention, a recurrence, a feed-forward net. Holds this shard's weights and no
// sequence's state, so that one object serves all sequences.
//
// Who calls it: the Decoder, from the thread that runs a rank's steps.
#pragma once

#include <memory>
#include <span>

#include "comm/communicator.h"
#include "kernels/device.h"
#include "runtime/cache/state_spec.h"
#include "runtime/model/spec.h"
#include "runtime/model/sublayers/weight_reader.h"

namespace trireme {

// What passes from sublayer to sublayer, and from one pipeline stage to the next.
struct Carry {
  TensorView x;  // [rows, dim]: the residual stream, whole on every shard
  TensorView
      side;  // [rows of the step, *]: what an early layer hands to all later ones, this shard's
             // slice: RWKV-7's first value, YOCO's shared keys and values. cols == 0: nothing.
};

// Rows of a step, as the device sees them.
struct StepBatch {
  Ragged rows;
  std::span<const TensorView> rope_tables;  // by ModelSpec::ropes: cos and sin of each row
};

// One sublayer's bytes in the cache, for the sequences of one step.
struct StateView {
  KvView kv;        // Growth::kPerToken
  StateRows fixed;  // Growth::kFixed
};

// Working memory of one forward call: taken piece by piece, given back all at once by the next
// call.
class Scratch {
 public:
  Scratch() = default;
  Scratch(float* data, int64_t floats, Place place) : data_(data), floats_(floats), place_(place) {}
  TensorView take(int64_t rows, int64_t cols) {
    const int64_t floats = (rows * cols + 15) / 16 * 16;  // pieces begin on cache lines
    CHECK(used_ + floats <= floats_) << "scratch of " << floats_ << " floats is too small";
    TensorView view = tensor(data_ + used_, rows, cols, DType::kF32, place_);
    used_ += floats;
    return view;
  }

 private:
  float* data_ = nullptr;
  int64_t floats_ = 0;
  int64_t used_ = 0;
  Place place_ = Place::kHost;
};

struct SublayerStep {
  const StepBatch& batch;
  const StateView& state;
  Carry& carry;
  Scratch scratch;
  bool added = false;  // by forward(): f(input) is in carry.x already, and delta says nothing
};

class Sublayer {
 public:
  virtual ~Sublayer() = default;
  // False: it leaves nothing in the residual stream, only in the cache or in carry.side.
  virtual bool adds() const { return true; }

  // Floats of scratch per row, at most.
  virtual int64_t scratch_cols() const = 0;

  // delta = f(input.y), after what `input` says has been done, which is this function's to do, by
  // Ops::residual_norm() or a compound that begins so; a sublayer without a norm has nothing to do.
  // input.delta and `delta` may be the same memory. Advances `step.state`; may read or set
  // step.carry.side, and step.added.
  // On return delta is the same on every shard. A Status that is not ok came from the communicator.
  virtual Status forward(const ResidualNorm& input, SublayerStep& step, TensorView delta) = 0;
};

// What a sublayer needs to be made.
struct SublayerContext {
  const ModelSpec& spec;
  const SublayerSpec& sublayer;
  Device& device;
  Communicator& shards;  // used by forward(); a measuring pass may give any
  int shard = 0;         // of shard_count
  int shard_count = 1;
  WeightReader& weights;

  const std::string& name(std::string_view tensor) const {
    const auto it = sublayer.tensors.find(tensor);
    CHECK(it != sublayer.tensors.end()) << "no tensor is called " << tensor;
    return it->second;
  }
  bool has(std::string_view tensor) const { return sublayer.tensors.contains(tensor); }
};

// The one place that knows every kind.
Result<std::unique_ptr<Sublayer>> make_sublayer(const SublayerContext& context);

// What a sublayer of this kind remembers on a shard.
StateSpec state_spec(const ModelSpec& spec, const SublayerSpec& sublayer, int shard,
                     int shard_count, DType cache_dtype);

}  // namespace trireme
