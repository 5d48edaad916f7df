// F16v on AVX2, FMA, F16C: two registers. See simd16.h, which alone includes this file.
#pragma once

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

namespace trireme {
namespace {

struct F16v {
  __m256 lo, hi;  // lanes 0..7, 8..15
};
struct Mask16 {
  __m256 lo, hi;  // all bits or none, per lane
};
struct Words16 {
  __m256i lo, hi;
};

// Lanes [0, n) of eight; n may lie outside [0, 8].
inline __m256i mask_of_first8(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

inline F16v broadcast(float s) { return {_mm256_set1_ps(s), _mm256_set1_ps(s)}; }
inline F16v zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }

inline F16v load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline F16v load_n(const float* p, int n) {
  return {_mm256_maskload_ps(p, mask_of_first8(n)),
          _mm256_maskload_ps(p + 8, mask_of_first8(n - 8))};
}

inline __m128i load_halves(const uint16_t* p) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}
inline __m256 f32_of_bf16(__m128i b) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(b), 16));
}
inline F16v load_bf16(const uint16_t* p) {
  return {f32_of_bf16(load_halves(p)), f32_of_bf16(load_halves(p + 8))};
}
inline F16v load_f16(const uint16_t* p) {
  return {_mm256_cvtph_ps(load_halves(p)), _mm256_cvtph_ps(load_halves(p + 8))};
}
// There are no masked loads of 16 bits: through a copy.
inline F16v load_bf16_n(const uint16_t* p, int n) {
  uint16_t copy[16] = {};
  for (int i = 0; i < n; ++i) copy[i] = p[i];
  return load_bf16(copy);
}
inline F16v load_f16_n(const uint16_t* p, int n) {
  uint16_t copy[16] = {};
  for (int i = 0; i < n; ++i) copy[i] = p[i];
  return load_f16(copy);
}
inline void load_bf16_pairs(const uint16_t* p, F16v& low, F16v& high) {
  const __m256i high_half = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
  const __m256i first = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  const __m256i second = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 16));
  low = {_mm256_castsi256_ps(_mm256_slli_epi32(first, 16)),
         _mm256_castsi256_ps(_mm256_slli_epi32(second, 16))};
  high = {_mm256_castsi256_ps(_mm256_and_si256(first, high_half)),
          _mm256_castsi256_ps(_mm256_and_si256(second, high_half))};
}

// e4m3's exponent and mantissa end f16's, whose exponents are 8 lower: bits 0 to 6 go to 7 to 13,
// which is a product with 128 of the code as a signed byte; the sign goes to 15 and to 14, where it
// must not stay. `chosen`: 128 for the bytes to take, 0 for their neighbours.
inline F16v f32_of_e4m3(__m256i codes, __m256i chosen) {
  const __m256i halves = _mm256_and_si256(_mm256_maddubs_epi16(chosen, codes),
                                          _mm256_set1_epi16(static_cast<int16_t>(0xbf80)));
  return {_mm256_cvtph_ps(_mm256_castsi256_si128(halves)),
          _mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1))};
}
inline void load_e4m3_pairs(const uint16_t* p, F16v (&first)[2], F16v (&second)[2]) {
  const __m256i low_bytes = _mm256_set1_epi16(0x0080);
  const __m256i high_bytes = _mm256_set1_epi16(static_cast<int16_t>(0x8000));
  for (int h = 0; h < 2; ++h) {
    const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 16 * h));
    first[h] = f32_of_e4m3(codes, low_bytes);
    second[h] = f32_of_e4m3(codes, high_bytes);
  }
}

inline Words16 load_words(const uint32_t* p) {
  return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 8))};
}
template <int kByte>
inline F16v byte_at(Words16 w) {
  const __m256i from = _mm256_add_epi32(
      _mm256_set1_epi32(static_cast<int>(0x80808000u + kByte)),  // zeros above the byte
      _mm256_setr_epi32(0, 4, 8, 12, 0, 4, 8, 12));
  return {_mm256_cvtepi32_ps(_mm256_shuffle_epi8(w.lo, from)),
          _mm256_cvtepi32_ps(_mm256_shuffle_epi8(w.hi, from))};
}
inline Words16 shift_right_4(Words16 w) {
  return {_mm256_srli_epi32(w.lo, 4), _mm256_srli_epi32(w.hi, 4)};
}
inline F16v nibble_at_0(Words16 w) {
  const __m256i mask = _mm256_set1_epi32(0xf);
  return {_mm256_cvtepi32_ps(_mm256_and_si256(w.lo, mask)),
          _mm256_cvtepi32_ps(_mm256_and_si256(w.hi, mask))};
}
inline F16v nibble_at_16_plus_128(Words16 w) {
  const __m256i mask = _mm256_set1_epi32(0xf0000);
  const __m256i base = _mm256_castps_si256(_mm256_set1_ps(128.0f));
  return {_mm256_castsi256_ps(_mm256_or_si256(_mm256_and_si256(w.lo, mask), base)),
          _mm256_castsi256_ps(_mm256_or_si256(_mm256_and_si256(w.hi, mask), base))};
}
inline __m256 scale_of_group(__m256i words) {
  return _mm256_castsi256_ps(_mm256_andnot_si256(_mm256_set1_epi32(0xff), words));
}
inline __m256 zero_of_group(__m256i words) {
  return _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(words, 24), 24));
}
inline void load_group_scales(const uint32_t* p, F16v& scale, F16v& zero) {
  const Words16 words = load_words(p);
  scale = {scale_of_group(words.lo), scale_of_group(words.hi)};
  zero = {zero_of_group(words.lo), zero_of_group(words.hi)};
}

inline void store(float* p, F16v a) {
  _mm256_storeu_ps(p, a.lo);
  _mm256_storeu_ps(p + 8, a.hi);
}
inline void store_n(float* p, F16v a, int n) {
  _mm256_maskstore_ps(p, mask_of_first8(n), a.lo);
  _mm256_maskstore_ps(p + 8, mask_of_first8(n - 8), a.hi);
}

// The bf16 bits in the low half of each 32.
inline __m256i bf16_of_f32(__m256 a) {
  const __m256i u = _mm256_castps_si256(a);
  const __m256i high = _mm256_srli_epi32(u, 16);
  const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
  __m256i r = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd);
  r = _mm256_srli_epi32(r, 16);
  const __m256i quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
  return _mm256_blendv_epi8(r, quiet, _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q)));
}
inline void store_bf16(uint16_t* p, F16v a) {
  const __m256i packed = _mm256_packus_epi32(bf16_of_f32(a.lo), bf16_of_f32(a.hi));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(packed, 0xd8));
}
inline void store_f16(uint16_t* p, F16v a) {
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(a.lo, kNearest));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8), _mm256_cvtps_ph(a.hi, kNearest));
}
inline void store_bf16_n(uint16_t* p, F16v a, int n) {
  uint16_t copy[16];
  store_bf16(copy, a);
  for (int i = 0; i < n; ++i) p[i] = copy[i];
}
inline void store_f16_n(uint16_t* p, F16v a, int n) {
  uint16_t copy[16];
  store_f16(copy, a);
  for (int i = 0; i < n; ++i) p[i] = copy[i];
}

inline F16v operator+(F16v a, F16v b) {
  return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}
inline F16v operator-(F16v a, F16v b) {
  return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}
inline F16v operator*(F16v a, F16v b) {
  return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}
inline F16v operator/(F16v a, F16v b) {
  return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}
inline F16v fma(F16v a, F16v b, F16v c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
inline F16v sqrt(F16v a) { return {_mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi)}; }
inline F16v neg(F16v a) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_xor_ps(a.lo, sign), _mm256_xor_ps(a.hi, sign)};
}
inline F16v abs(F16v a) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, a.lo), _mm256_andnot_ps(sign, a.hi)};
}
inline F16v min(F16v a, F16v b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
inline F16v max(F16v a, F16v b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
inline F16v floor(F16v a) {
  constexpr int kDown = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(a.lo, kDown), _mm256_round_ps(a.hi, kDown)};
}
inline F16v round_even(F16v a) {
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(a.lo, kNearest), _mm256_round_ps(a.hi, kNearest)};
}
inline __m256 scale_by_power_of_two8(__m256 a, __m256 n) {
  const __m256i bias = _mm256_set1_epi32(127);
  const __m256i whole = _mm256_cvttps_epi32(n);
  const __m256i half = _mm256_srai_epi32(whole, 1);
  const __m256i rest = _mm256_sub_epi32(whole, half);
  const __m256 first = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
  const __m256 second = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
  return _mm256_mul_ps(_mm256_mul_ps(a, first), second);
}
inline F16v scale_by_power_of_two(F16v a, F16v n) {
  return {scale_by_power_of_two8(a.lo, n.lo), scale_by_power_of_two8(a.hi, n.hi)};
}

inline Mask16 less(F16v a, F16v b) {
  return {_mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ)};
}
inline Mask16 less_equal(F16v a, F16v b) {
  return {_mm256_cmp_ps(a.lo, b.lo, _CMP_LE_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_LE_OQ)};
}
inline Mask16 equal(F16v a, F16v b) {
  return {_mm256_cmp_ps(a.lo, b.lo, _CMP_EQ_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_EQ_OQ)};
}
inline Mask16 first_lanes(int n) {
  return {_mm256_castsi256_ps(mask_of_first8(n)), _mm256_castsi256_ps(mask_of_first8(n - 8))};
}
inline Mask16 operator&(Mask16 a, Mask16 b) {
  return {_mm256_and_ps(a.lo, b.lo), _mm256_and_ps(a.hi, b.hi)};
}
inline Mask16 operator|(Mask16 a, Mask16 b) {
  return {_mm256_or_ps(a.lo, b.lo), _mm256_or_ps(a.hi, b.hi)};
}
inline F16v select(Mask16 m, F16v a, F16v b) {
  return {_mm256_blendv_ps(b.lo, a.lo, m.lo), _mm256_blendv_ps(b.hi, a.hi, m.hi)};
}

inline float sum(F16v a) {
  const __m256 h = _mm256_add_ps(a.lo, a.hi);
  __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(q, _mm_shuffle_ps(q, q, 1)));
}
inline float max_lane(F16v a) {
  const __m256 h = _mm256_max_ps(a.lo, a.hi);
  __m128 q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  q = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ss(q, _mm_shuffle_ps(q, q, 1)));
}

}  // namespace
}  // namespace trireme
