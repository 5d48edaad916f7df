// F16v without vector instructions. See simd16.h, which alone includes this file.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace trireme {
namespace {

struct F16v {
  float v[16];
};
struct Mask16 {
  uint32_t bits;
};
struct Words16 {
  uint32_t v[16];
};

inline uint32_t bits_of(float f) {
  uint32_t u;
  __builtin_memcpy(&u, &f, 4);
  return u;
}
inline float float_of(uint32_t u) {
  float f;
  __builtin_memcpy(&f, &u, 4);
  return f;
}

// Sixteen lanes, each f(lane).
template <class F>
inline F16v each_lane(F f) {
  F16v r;
  for (int i = 0; i < 16; ++i) r.v[i] = f(i);
  return r;
}
template <class F>
inline Mask16 each_mask(F f) {
  uint32_t bits = 0;
  for (int i = 0; i < 16; ++i) bits |= (f(i) ? 1u : 0u) << i;
  return {bits};
}

inline float f32_of_bf16(uint16_t b) { return float_of(static_cast<uint32_t>(b) << 16); }
inline uint16_t bf16_of_f32(float f) {
  const uint32_t u = bits_of(f);
  if ((u & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((u >> 16) | 0x40u);
  return static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}
inline float f32_of_f16(uint16_t h) {
  const uint32_t sign = (h & 0x8000u) << 16;
  const uint32_t exponent = (h >> 10) & 0x1fu;
  const uint32_t mantissa = h & 0x3ffu;
  if (exponent == 0x1fu) {  // infinity; NaN, made quiet as the instructions do
    const uint32_t quiet = mantissa != 0 ? 0x400000u : 0u;
    return float_of(sign | 0x7f800000u | quiet | (mantissa << 13));
  }
  if (exponent == 0) return float_of(sign | bits_of(static_cast<float>(mantissa) * 0x1p-24f));
  return float_of(sign | ((exponent + 112u) << 23) | (mantissa << 13));
}
inline uint16_t f16_of_f32(float f) {
  const uint32_t u = bits_of(f);
  const uint32_t sign = (u >> 16) & 0x8000u;
  const uint32_t magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u)
    return static_cast<uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x1ffu));
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // >= 65520
  if (magnitude < 0x38800000u) {  // subnormal: adding 0.5 rounds to a multiple of 2^-24
    return static_cast<uint16_t>(sign | (bits_of(float_of(magnitude) + 0.5f) - 0x3f000000u));
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

inline F16v broadcast(float s) {
  return each_lane([&](int) { return s; });
}
inline F16v zero() { return broadcast(0.0f); }

inline F16v load_n(const float* p, int n) {
  return each_lane([&](int i) { return i < n ? p[i] : 0.0f; });
}
inline F16v load(const float* p) { return load_n(p, 16); }
inline F16v load_bf16_n(const uint16_t* p, int n) {
  return each_lane([&](int i) { return i < n ? f32_of_bf16(p[i]) : 0.0f; });
}
inline F16v load_bf16(const uint16_t* p) { return load_bf16_n(p, 16); }
inline F16v load_f16_n(const uint16_t* p, int n) {
  return each_lane([&](int i) { return i < n ? f32_of_f16(p[i]) : 0.0f; });
}
inline F16v load_f16(const uint16_t* p) { return load_f16_n(p, 16); }
inline void load_bf16_pairs(const uint16_t* p, F16v& low, F16v& high) {
  low = each_lane([&](int i) { return f32_of_bf16(p[2 * i]); });
  high = each_lane([&](int i) { return f32_of_bf16(p[2 * i + 1]); });
}

// e4m3's exponent and mantissa end f16's, whose exponents are 8 lower.
inline float f32_of_e4m3(uint8_t b) {
  return f32_of_f16(static_cast<uint16_t>((b & 0x80u) << 8 | (b & 0x7fu) << 7));
}
inline void load_e4m3_pairs(const uint16_t* p, F16v (&first)[2], F16v (&second)[2]) {
  for (int h = 0; h < 2; ++h) {
    const uint16_t* pairs = p + 16 * h;
    first[h] = each_lane([&](int i) { return f32_of_e4m3(static_cast<uint8_t>(pairs[i])); });
    second[h] = each_lane([&](int i) { return f32_of_e4m3(static_cast<uint8_t>(pairs[i] >> 8)); });
  }
}
inline void load_group_scales(const uint32_t* p, F16v& scale, F16v& zero) {
  scale = each_lane([&](int i) { return float_of(p[i] & ~0xffu); });
  zero = each_lane([&](int i) { return static_cast<float>(static_cast<int8_t>(p[i] & 0xffu)); });
}

inline Words16 load_words(const uint32_t* p) {
  Words16 r;
  for (int i = 0; i < 16; ++i) r.v[i] = p[i];
  return r;
}
template <int kByte>
inline F16v byte_at(Words16 w) {
  return each_lane([&](int i) { return static_cast<float>(w.v[i] >> 8 * kByte & 0xffu); });
}
inline Words16 shift_right_4(Words16 w) {
  for (int i = 0; i < 16; ++i) w.v[i] >>= 4;
  return w;
}
inline F16v nibble_at_0(Words16 w) {
  return each_lane([&](int i) { return static_cast<float>(w.v[i] & 0xfu); });
}
inline F16v nibble_at_16_plus_128(Words16 w) {
  return each_lane([&](int i) { return float_of(0x43000000u | (w.v[i] & 0xf0000u)); });
}

inline void store_n(float* p, F16v a, int n) {
  for (int i = 0; i < n; ++i) p[i] = a.v[i];
}
inline void store(float* p, F16v a) { store_n(p, a, 16); }
inline void store_bf16_n(uint16_t* p, F16v a, int n) {
  for (int i = 0; i < n; ++i) p[i] = bf16_of_f32(a.v[i]);
}
inline void store_bf16(uint16_t* p, F16v a) { store_bf16_n(p, a, 16); }
inline void store_f16_n(uint16_t* p, F16v a, int n) {
  for (int i = 0; i < n; ++i) p[i] = f16_of_f32(a.v[i]);
}
inline void store_f16(uint16_t* p, F16v a) { store_f16_n(p, a, 16); }

inline F16v operator+(F16v a, F16v b) {
  return each_lane([&](int i) { return a.v[i] + b.v[i]; });
}
inline F16v operator-(F16v a, F16v b) {
  return each_lane([&](int i) { return a.v[i] - b.v[i]; });
}
inline F16v operator*(F16v a, F16v b) {
  return each_lane([&](int i) { return a.v[i] * b.v[i]; });
}
inline F16v operator/(F16v a, F16v b) {
  return each_lane([&](int i) { return a.v[i] / b.v[i]; });
}
inline F16v fma(F16v a, F16v b, F16v c) {
  return each_lane([&](int i) { return __builtin_fmaf(a.v[i], b.v[i], c.v[i]); });
}
inline F16v sqrt(F16v a) {
  return each_lane([&](int i) { return __builtin_sqrtf(a.v[i]); });
}
inline F16v neg(F16v a) {
  return each_lane([&](int i) { return float_of(bits_of(a.v[i]) ^ 0x80000000u); });
}
inline F16v abs(F16v a) {
  return each_lane([&](int i) { return float_of(bits_of(a.v[i]) & 0x7fffffffu); });
}
inline F16v min(F16v a, F16v b) {
  return each_lane([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
inline F16v max(F16v a, F16v b) {
  return each_lane([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
inline F16v floor(F16v a) {
  return each_lane([&](int i) { return __builtin_floorf(a.v[i]); });
}
inline F16v round_even(F16v a) {
  return each_lane([&](int i) { return __builtin_nearbyintf(a.v[i]); });
}
inline F16v scale_by_power_of_two(F16v a, F16v n) {
  return each_lane([&](int i) {
    const int32_t whole = static_cast<int32_t>(n.v[i]);
    const int32_t half = whole >> 1;
    const float first = float_of(static_cast<uint32_t>(half + 127) << 23);
    const float second = float_of(static_cast<uint32_t>(whole - half + 127) << 23);
    return (a.v[i] * first) * second;
  });
}

inline Mask16 less(F16v a, F16v b) {
  return each_mask([&](int i) { return a.v[i] < b.v[i]; });
}
inline Mask16 less_equal(F16v a, F16v b) {
  return each_mask([&](int i) { return a.v[i] <= b.v[i]; });
}
inline Mask16 equal(F16v a, F16v b) {
  return each_mask([&](int i) { return a.v[i] == b.v[i]; });
}
inline Mask16 first_lanes(int n) { return {(1u << n) - 1u}; }
inline Mask16 operator&(Mask16 a, Mask16 b) { return {a.bits & b.bits}; }
inline Mask16 operator|(Mask16 a, Mask16 b) { return {a.bits | b.bits}; }
inline F16v select(Mask16 m, F16v a, F16v b) {
  return each_lane([&](int i) { return (m.bits >> i & 1u) != 0 ? a.v[i] : b.v[i]; });
}

inline float sum(F16v a) {
  for (int width = 8; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) a.v[i] += a.v[i + width];
  }
  return a.v[0];
}
inline float max_lane(F16v a) {
  for (int width = 8; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) a.v[i] = a.v[i] > a.v[i + width] ? a.v[i] : a.v[i + width];
  }
  return a.v[0];
}

}  // namespace
}  // namespace trireme
