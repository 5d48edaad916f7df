// Operations on rows: no position, no state.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/ref/ref_matrix.h"
#include "kernels/ref/ref_ops.h"

namespace trireme {
namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

double activation(Activation kind, double x) {
  switch (kind) {
    case Activation::kSigmoid:
      return sigmoid(x);
    case Activation::kTanh:
      return std::tanh(x);
    case Activation::kSilu:
      return x * sigmoid(x);
    case Activation::kReluSquared:
      return x < 0 ? 0 : x * x;
  }
  return 0;
}

// Normalises one part of a row. gain, bias: [n], or null.
void norm_part(const float* x, int64_t n, NormKind kind, double epsilon, const float* gain,
               const float* bias, float* y) {
  double mean = 0;
  if (kind == NormKind::kLayer) {
    for (int64_t i = 0; i < n; ++i) mean += x[i];
    mean /= static_cast<double>(n);
  }
  double squares = 0;
  for (int64_t i = 0; i < n; ++i) squares += (x[i] - mean) * (x[i] - mean);
  const double scale = 1 / std::sqrt(squares / static_cast<double>(n) + epsilon);
  for (int64_t i = 0; i < n; ++i) {
    y[i] = static_cast<float>((x[i] - mean) * scale * (gain ? gain[i] : 1) + (bias ? bias[i] : 0));
  }
}

// Where the part `group` of a row finds its gain or bias: its own columns, or the shared ones.
const float* part_of(const ConstTensorView& parameter, int64_t group, int64_t part_cols) {
  if (parameter.empty()) return nullptr;
  return parameter.f32_row(0) + (parameter.cols == part_cols ? 0 : group * part_cols);
}

}  // namespace

void RefOps::embed(const WeightView& table, const int32_t* ids, int32_t count, int32_t first_id,
                   float scale, TensorView y) {
  for (int32_t t = 0; t < count; ++t) {
    const int64_t row = int64_t{ids[t]} - first_id;
    const bool mine = row >= 0 && row < table.rows;
    for (int64_t c = 0; c < table.cols; ++c)
      y.f32_row(t)[c] = mine ? scale * ref_weight(table, row, c) : 0;
  }
}

void RefOps::norm(ConstTensorView x, const NormArgs& args, TensorView y) {
  const int64_t n = x.cols / args.groups;
  for (int64_t t = 0; t < x.rows; ++t) {
    for (int64_t g = 0; g < args.groups; ++g) {
      norm_part(x.f32_row(t) + g * n, n, args.kind, args.epsilon, part_of(args.gain, g, n),
                part_of(args.bias, g, n), y.f32_row(t) + g * n);
    }
  }
}

void RefOps::linear(ConstTensorView x, const WeightView& w, TensorView y) {
  for (int64_t t = 0; t < x.rows; ++t) {
    for (int64_t o = 0; o < w.rows; ++o) {
      double sum = 0;
      for (int64_t c = 0; c < w.cols; ++c) sum += double{x.f32_row(t)[c]} * ref_weight(w, o, c);
      y.f32_row(t)[o] = static_cast<float>(sum + (w.bias.empty() ? 0 : w.bias.f32_row(0)[o]));
    }
  }
}

void RefOps::add(ConstTensorView x, TensorView y) {
  for (int64_t t = 0; t < y.rows; ++t) {
    for (int64_t c = 0; c < y.cols; ++c) y.f32_row(t)[c] += x.f32_row(t)[c];
  }
}

void RefOps::multiply(ConstTensorView x, TensorView y) {
  for (int64_t t = 0; t < y.rows; ++t) {
    for (int64_t c = 0; c < y.cols; ++c) y.f32_row(t)[c] *= x.f32_row(t)[c];
  }
}

void RefOps::activate(Activation kind, ConstTensorView x, TensorView y) {
  for (int64_t t = 0; t < y.rows; ++t) {
    for (int64_t c = 0; c < y.cols; ++c) {
      y.f32_row(t)[c] = static_cast<float>(activation(kind, x.f32_row(t)[c]));
    }
  }
}

void RefOps::swiglu(ConstTensorView gate, ConstTensorView up, TensorView y) {
  for (int64_t t = 0; t < y.rows; ++t) {
    for (int64_t c = 0; c < y.cols; ++c) {
      const double silu = activation(Activation::kSilu, gate.f32_row(t)[c]);
      y.f32_row(t)[c] = static_cast<float>(silu * up.f32_row(t)[c]);
    }
  }
}

void RefOps::gather_rows(ConstTensorView x, const int32_t* indices, int32_t count, TensorView y) {
  for (int32_t i = 0; i < count; ++i) {
    std::memmove(y.f32_row(i), x.f32_row(indices[i]), static_cast<size_t>(x.cols) * sizeof(float));
  }
}

}  // namespace trireme
