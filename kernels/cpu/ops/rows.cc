// Operations on rows: every row by itself.
#include <cmath>
#include <cstring>

#include "kernels/cpu/cpu_ops.h"

namespace trireme {
namespace {

// An exponential costs about as much as touching so many floats.
constexpr int64_t kExpFloats = 4;

const float* first_column(const ConstTensorView& parameter) {
  return parameter.empty() ? nullptr : parameter.f32_row(0);
}

// Normalises a row of x to a row of y: what norm() and add_norm() do alike.
class NormRow {
 public:
  NormRow(const OpLoops& loops, const NormArgs& args, int64_t cols)
      : loop_(args.kind == NormKind::kRms ? loops.norm_rms : loops.norm_layer),
        args_(args),
        cols_(cols / args.groups) {}
  void operator()(const float* x, float* y) const {
    loop_(x, args_.groups, cols_, args_.epsilon, first_column(args_.gain), first_column(args_.bias),
          step(args_.gain), step(args_.bias), y);
  }

 private:
  // From one group's parameters to the next's; 0 where all groups share them.
  int64_t step(const ConstTensorView& parameter) const {
    return parameter.cols == cols_ * args_.groups ? cols_ : 0;
  }
  decltype(OpLoops::norm_rms) loop_;
  const NormArgs& args_;
  int64_t cols_;  // of a group
};

}  // namespace

void CpuOps::norm(ConstTensorView x, const NormArgs& args, TensorView y) {
  const NormRow norm_row(loops_, args, x.cols);
  share(x.rows, 3 * x.rows * x.cols, [&](int64_t first, int64_t last) {
    for (int64_t t = first; t < last; ++t) norm_row(x.f32_row(t), y.f32_row(t));
  });
}

// A row is normalised while it is still in the cache of the thread that has added to it.
void CpuOps::add_norm(ConstTensorView delta, TensorView x, const NormArgs& args, TensorView y) {
  const NormRow norm_row(loops_, args, x.cols);
  share(x.rows, 4 * x.rows * x.cols, [&](int64_t first, int64_t last) {
    for (int64_t t = first; t < last; ++t) {
      loops_.add(delta.f32_row(t), x.cols, x.f32_row(t));
      norm_row(x.f32_row(t), y.f32_row(t));
    }
  });
}

void CpuOps::add(ConstTensorView x, TensorView y) {
  share(y.rows, y.rows * y.cols, [&](int64_t first, int64_t last) {
    for (int64_t t = first; t < last; ++t) loops_.add(x.f32_row(t), y.cols, y.f32_row(t));
  });
}

void CpuOps::multiply(ConstTensorView x, TensorView y) {
  share(y.rows, y.rows * y.cols, [&](int64_t first, int64_t last) {
    for (int64_t t = first; t < last; ++t) loops_.multiply(x.f32_row(t), y.cols, y.f32_row(t));
  });
}

void CpuOps::activate(Activation kind, ConstTensorView x, TensorView y) {
  const auto loop = loops_.activate[static_cast<int>(kind)];
  share(y.rows, kExpFloats * y.rows * y.cols, [&](int64_t first, int64_t last) {
    for (int64_t t = first; t < last; ++t) loop(x.f32_row(t), y.cols, y.f32_row(t));
  });
}

void CpuOps::swiglu(ConstTensorView gate, ConstTensorView up, TensorView y) {
  share(y.rows, kExpFloats * y.rows * y.cols, [&](int64_t first, int64_t last) {
    for (int64_t t = first; t < last; ++t) {
      loops_.swiglu(gate.f32_row(t), up.f32_row(t), y.cols, y.f32_row(t));
    }
  });
}

// By the caller alone: where y is x, a row may be read only before a later one lands on it.
void CpuOps::gather_rows(ConstTensorView x, const int32_t* indices, int32_t count, TensorView y) {
  const size_t bytes = static_cast<size_t>(x.cols) * sizeof(float);
  for (int32_t i = 0; i < count; ++i) {
    if (y.f32_row(i) != x.f32_row(indices[i])) {
      std::memcpy(y.f32_row(i), x.f32_row(indices[i]), bytes);
    }
  }
}

// Once per step and not once per layer, so that the library's f64 functions, which reduce any
// argument exactly, are affordable: a position of a million times the first frequency is an angle
// of a million radians.
void CpuOps::rope_table(const int32_t* positions, int32_t rows, ConstTensorView inverse_frequencies,
                        float scale, TensorView cos_sin) {
  const int64_t n = inverse_frequencies.cols;
  const float* frequencies = first_column(inverse_frequencies);
  constexpr int64_t kSineFloats = 64;
  share(rows, kSineFloats * rows * n, [&](int64_t first, int64_t last) {
    for (int64_t t = first; t < last; ++t) {
      float* to = cos_sin.f32_row(t);
      for (int64_t i = 0; i < n; ++i) {
        const double angle = static_cast<float>(positions[t]) * frequencies[i];
        to[i] = static_cast<float>(std::cos(angle) * scale);
        to[n + i] = static_cast<float>(std::sin(angle) * scale);
      }
    }
  });
}

void CpuOps::rope(ConstTensorView cos_sin, RopeStyle style, int32_t head_dim, TensorView x) {
  const auto loop = style == RopeStyle::kHalves ? loops_.rope_halves : loops_.rope_interleaved;
  const int64_t half = cos_sin.cols / 2, heads = x.cols / head_dim;
  share(x.rows, x.rows * x.cols, [&](int64_t first, int64_t last) {
    for (int64_t t = first; t < last; ++t) {
      loop(cos_sin.f32_row(t), half, heads, head_dim, x.f32_row(t));
    }
  });
}

}  // namespace trireme
