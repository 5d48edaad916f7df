// Operations with a state of constant size per sequence, row after row.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/ref/ref_ops.h"

namespace trireme {
namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// log(sigmoid(x)), also where sigmoid(x) is too small for its logarithm.
double log_sigmoid(double x) {
  return x < 0 ? x - std::log1p(std::exp(x)) : -std::log1p(std::exp(-x));
}

// The state of sequence s, of `floats` elements. A run from position 0 begins with zeros, whatever
// the bytes hold.
float* state_of(const StateRows& states, const Ragged& rows, int32_t s, int64_t floats) {
  auto* state = reinterpret_cast<float*>(states.base[s] + states.offset);
  if (rows.positions[rows.offsets[s]] == 0) std::fill(state, state + floats, 0.0f);
  return state;
}

bool empty_run(const Ragged& rows, int32_t s) { return rows.offsets[s] == rows.offsets[s + 1]; }

}  // namespace

void RefOps::shift_mix(ConstTensorView x, const Ragged& rows, const StateRows& states,
                       ConstTensorView mix, TensorView out) {
  for (int32_t s = 0; s < rows.sequences; ++s) {
    if (empty_run(rows, s)) continue;
    float* previous = state_of(states, rows, s, x.cols);
    for (int32_t t = rows.offsets[s]; t < rows.offsets[s + 1]; ++t) {
      for (int64_t c = 0; c < x.cols; ++c) {
        const double now = x.f32_row(t)[c], before = previous[c];
        for (int64_t i = 0; i < mix.rows; ++i) {
          out.f32_row(t)[i * x.cols + c] =
              static_cast<float>(now + (before - now) * mix.f32_row(i)[c]);
        }
        previous[c] = x.f32_row(t)[c];
      }
    }
  }
}

void RefOps::wkv4(const Wkv4Args& args, const Ragged& rows, const StateRows& states,
                  TensorView out) {
  const int64_t channels = args.k.cols;
  for (int32_t s = 0; s < rows.sequences; ++s) {
    if (empty_run(rows, s)) continue;
    float* state = state_of(states, rows, s, 3 * channels);
    if (rows.positions[rows.offsets[s]] == 0) {
      std::fill(state + 2 * channels, state + 3 * channels, -1e38f);
    }
    for (int32_t t = rows.offsets[s]; t < rows.offsets[s + 1]; ++t) {
      for (int64_t c = 0; c < channels; ++c) {
        float &aa = state[c], &bb = state[channels + c], &pp = state[2 * channels + c];
        const double k = args.k.f32_row(t)[c], v = args.v.f32_row(t)[c];
        const double w = args.w.f32_row(0)[c], u = args.u.f32_row(0)[c];
        double q = std::max(pp + 0.0, u + k);
        double old_share = std::exp(pp - q), new_share = std::exp(u + k - q);
        const double wkv = (old_share * aa + new_share * v) / (old_share * bb + new_share);
        q = std::max(pp + w, k);
        old_share = std::exp(pp + w - q), new_share = std::exp(k - q);
        aa = static_cast<float>(old_share * aa + new_share * v);
        bb = static_cast<float>(old_share * bb + new_share);
        pp = static_cast<float>(q);
        out.f32_row(t)[c] = static_cast<float>(sigmoid(args.r.f32_row(t)[c]) * wkv);
      }
    }
  }
}

void RefOps::wkv7_prepare(const Wkv7PrepareArgs& args) {
  const int64_t dim = args.head_dim;
  const float *k_k = args.k_k.f32_row(0), *k_a = args.k_a.f32_row(0);
  for (int64_t t = 0; t < args.w.rows; ++t) {
    float *w = args.w.f32_row(t), *a = args.a.f32_row(t), *b = args.b.f32_row(t);
    float *k = args.k.f32_row(t), *v = args.v.f32_row(t);
    for (int64_t first = 0; first < args.w.cols; first += dim) {
      double squares = 0;
      for (int64_t c = first; c < first + dim; ++c) {
        squares += double{k[c]} * k_k[c] * k[c] * k_k[c];
      }
      const double length = std::max(std::sqrt(squares), 1e-12);
      for (int64_t c = first; c < first + dim; ++c) {
        const double al = sigmoid(a[c]), kk = double{k[c]} * k_k[c] / length;
        w[c] = static_cast<float>(std::exp(-std::exp(-0.5) * sigmoid(w[c])));
        b[c] = static_cast<float>(kk * al);
        a[c] = static_cast<float>(-kk);
        k[c] = static_cast<float>(k[c] * (1 + (al - 1) * k_a[c]));
        if (!args.v_first.empty()) {
          const double gate = sigmoid(args.v_gate.f32_row(t)[c]);
          v[c] = static_cast<float>(v[c] + (double{args.v_first.f32_row(t)[c]} - v[c]) * gate);
        }
      }
    }
  }
}

void RefOps::wkv7(const Wkv7Args& args, const Ragged& rows, const StateRows& states,
                  TensorView out) {
  const int64_t dim = args.head_dim;
  for (int32_t s = 0; s < rows.sequences; ++s) {
    if (empty_run(rows, s)) continue;
    float* state = state_of(states, rows, s, args.heads * dim * dim);
    for (int32_t t = rows.offsets[s]; t < rows.offsets[s + 1]; ++t) {
      for (int64_t h = 0; h < args.heads; ++h) {
        const float *r = args.r.f32_row(t) + h * dim, *w = args.w.f32_row(t) + h * dim;
        const float *k = args.k.f32_row(t) + h * dim, *v = args.v.f32_row(t) + h * dim;
        const float *a = args.a.f32_row(t) + h * dim, *b = args.b.f32_row(t) + h * dim;
        for (int64_t i = 0; i < dim; ++i) {
          float* row = state + (h * dim + i) * dim;  // S[i][:], the keys of value i
          double sa = 0, sum = 0;
          for (int64_t j = 0; j < dim; ++j) sa += double{row[j]} * a[j];
          for (int64_t j = 0; j < dim; ++j) {
            row[j] = static_cast<float>(double{row[j]} * w[j] + sa * b[j] + double{v[i]} * k[j]);
            sum += double{row[j]} * r[j];
          }
          out.f32_row(t)[h * dim + i] = static_cast<float>(sum);
        }
      }
    }
  }
}

void RefOps::wkv7_finish(const Wkv7FinishArgs& args, TensorView y) {
  const int64_t dim = args.head_dim;
  for (int64_t t = 0; t < y.rows; ++t) {
    const float *r = args.r.f32_row(t), *k = args.k.f32_row(t), *r_k = args.r_k.f32_row(0);
    for (int64_t first = 0; first < y.cols; first += dim) {
      double bonus = 0;
      for (int64_t c = first; c < first + dim; ++c) bonus += double{r[c]} * k[c] * r_k[c];
      for (int64_t c = first; c < first + dim; ++c) {
        float& value = y.f32_row(t)[c];
        value = static_cast<float>((value + bonus * args.v.f32_row(t)[c]) * args.g.f32_row(t)[c]);
      }
    }
  }
}

void RefOps::retention(const RetentionArgs& args, const Ragged& rows, const StateRows& states,
                       TensorView out) {
  const int64_t dim = args.head_dim;
  std::vector<double> sum(static_cast<size_t>(dim));
  for (int32_t s = 0; s < rows.sequences; ++s) {
    if (empty_run(rows, s)) continue;
    float* state = state_of(states, rows, s, args.heads * dim * dim);
    for (int32_t t = rows.offsets[s]; t < rows.offsets[s + 1]; ++t) {
      for (int64_t h = 0; h < args.heads; ++h) {
        const float *q = args.q.f32_row(t) + h * dim, *k = args.k.f32_row(t) + h * dim;
        const float* v = args.v.f32_row(t) + h * dim;
        const double gamma = std::exp(log_sigmoid(args.gate.f32_row(t)[h]) / args.gate_normalizer);
        std::fill(sum.begin(), sum.end(), 0.0);
        for (int64_t i = 0; i < dim; ++i) {
          float* row = state + (h * dim + i) * dim;  // S[i][:], the values of key i
          for (int64_t j = 0; j < dim; ++j) {
            row[j] = static_cast<float>(gamma * row[j] + double{k[i]} * args.k_scale * v[j]);
            sum[static_cast<size_t>(j)] += double{q[i]} * row[j];
          }
        }
        for (int64_t j = 0; j < dim; ++j) {
          out.f32_row(t)[h * dim + j] = static_cast<float>(sum[static_cast<size_t>(j)]);
        }
      }
    }
  }
}

}  // namespace trireme
