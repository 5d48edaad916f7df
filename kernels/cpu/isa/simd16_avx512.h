// F16v on AVX-512 F, BW, DQ, VL. See simd16.h, which alone includes this file.
#pragma once

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

namespace trireme {
namespace {

struct F16v {
  __m512 v;
};
struct Mask16 {
  __mmask16 bits;
};
struct Words16 {
  __m512i v;
};

inline __mmask16 mask_of_first(int n) { return static_cast<__mmask16>((1u << n) - 1u); }

inline F16v broadcast(float s) { return {_mm512_set1_ps(s)}; }
inline F16v zero() { return {_mm512_setzero_ps()}; }

inline F16v load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline F16v load_n(const float* p, int n) { return {_mm512_maskz_loadu_ps(mask_of_first(n), p)}; }

inline F16v f32_of_bf16(__m256i b) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(b), 16))};
}
inline __m256i load_halves(const uint16_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
inline __m256i load_halves_n(const uint16_t* p, int n) {
  return _mm256_maskz_loadu_epi16(mask_of_first(n), p);
}
inline F16v load_bf16(const uint16_t* p) { return f32_of_bf16(load_halves(p)); }
inline F16v load_bf16_n(const uint16_t* p, int n) { return f32_of_bf16(load_halves_n(p, n)); }
inline F16v load_f16(const uint16_t* p) { return {_mm512_cvtph_ps(load_halves(p))}; }
inline F16v load_f16_n(const uint16_t* p, int n) { return {_mm512_cvtph_ps(load_halves_n(p, n))}; }
inline void load_bf16_pairs(const uint16_t* p, F16v& low, F16v& high) {
  const __m512i pairs = _mm512_loadu_si512(p);
  low.v = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
  high.v = _mm512_castsi512_ps(
      _mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
}

// e4m3's exponent and mantissa end f16's, whose exponents are 8 lower: bits 0 to 6 go to 7 to 13,
// which is a product with 128 of the code as a signed byte; the sign goes to 15 and to 14, where it
// must not stay. `chosen`: 128 for the bytes to take, 0 for their neighbours.
inline void f32_of_e4m3(__m512i codes, __m512i chosen, F16v (&to)[2]) {
  const __m512i halves = _mm512_and_si512(_mm512_maddubs_epi16(chosen, codes),
                                          _mm512_set1_epi16(static_cast<int16_t>(0xbf80)));
  to[0].v = _mm512_cvtph_ps(_mm512_castsi512_si256(halves));
  to[1].v = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(halves, 1));
}
inline void load_e4m3_pairs(const uint16_t* p, F16v (&first)[2], F16v (&second)[2]) {
  const __m512i codes = _mm512_loadu_si512(p);
  f32_of_e4m3(codes, _mm512_set1_epi16(0x0080), first);
  f32_of_e4m3(codes, _mm512_set1_epi16(static_cast<int16_t>(0x8000)), second);
}

inline Words16 load_words(const uint32_t* p) { return {_mm512_loadu_si512(p)}; }
template <int kByte>
inline F16v byte_at(Words16 w) {
  const __m512i from = _mm512_add_epi32(
      _mm512_set1_epi32(static_cast<int>(0x80808000u + kByte)),  // zeros above the byte
      _mm512_setr_epi32(0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12));
  return {_mm512_cvtepi32_ps(_mm512_shuffle_epi8(w.v, from))};
}
inline Words16 shift_right_4(Words16 w) { return {_mm512_srli_epi32(w.v, 4)}; }
// A look-up that takes the last 4 bits of each index and needs no mask.
inline F16v nibble_at_0(Words16 w) {
  return {_mm512_permutexvar_ps(
      w.v, _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15))};
}
inline F16v nibble_at_16_plus_128(Words16 w) {
  constexpr int kAndOr = 0xea;  // (first & second) | third
  return {_mm512_castsi512_ps(_mm512_ternarylogic_epi32(
      w.v, _mm512_set1_epi32(0xf0000), _mm512_castps_si512(_mm512_set1_ps(128.0f)), kAndOr))};
}
inline void load_group_scales(const uint32_t* p, F16v& scale, F16v& zero) {
  const __m512i words = _mm512_loadu_si512(p);
  scale.v = _mm512_castsi512_ps(_mm512_andnot_si512(_mm512_set1_epi32(0xff), words));
  zero.v = _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(words, 24), 24));
}

inline void store(float* p, F16v a) { _mm512_storeu_ps(p, a.v); }
inline void store_n(float* p, F16v a, int n) { _mm512_mask_storeu_ps(p, mask_of_first(n), a.v); }

inline __m256i bf16_of_f32(F16v a) {
  const __m512i u = _mm512_castps_si512(a.v);
  const __m512i high = _mm512_srli_epi32(u, 16);
  const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
  __m512i r = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);
  r = _mm512_srli_epi32(r, 16);
  const __mmask16 nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
  r = _mm512_mask_or_epi32(r, nan, high, _mm512_set1_epi32(0x40));
  return _mm512_cvtepi32_epi16(r);
}
inline __m256i f16_of_f32(F16v a) {
  return _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline void store_halves(uint16_t* p, __m256i h) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), h);
}
inline void store_halves_n(uint16_t* p, __m256i h, int n) {
  _mm256_mask_storeu_epi16(p, mask_of_first(n), h);
}
inline void store_bf16(uint16_t* p, F16v a) { store_halves(p, bf16_of_f32(a)); }
inline void store_bf16_n(uint16_t* p, F16v a, int n) { store_halves_n(p, bf16_of_f32(a), n); }
inline void store_f16(uint16_t* p, F16v a) { store_halves(p, f16_of_f32(a)); }
inline void store_f16_n(uint16_t* p, F16v a, int n) { store_halves_n(p, f16_of_f32(a), n); }

inline F16v operator+(F16v a, F16v b) { return {_mm512_add_ps(a.v, b.v)}; }
inline F16v operator-(F16v a, F16v b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline F16v operator*(F16v a, F16v b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline F16v operator/(F16v a, F16v b) { return {_mm512_div_ps(a.v, b.v)}; }
inline F16v fma(F16v a, F16v b, F16v c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline F16v sqrt(F16v a) { return {_mm512_sqrt_ps(a.v)}; }
inline F16v neg(F16v a) { return {_mm512_xor_ps(a.v, _mm512_set1_ps(-0.0f))}; }
inline F16v abs(F16v a) { return {_mm512_andnot_ps(_mm512_set1_ps(-0.0f), a.v)}; }
inline F16v min(F16v a, F16v b) { return {_mm512_min_ps(a.v, b.v)}; }
inline F16v max(F16v a, F16v b) { return {_mm512_max_ps(a.v, b.v)}; }
inline F16v floor(F16v a) {
  return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)};
}
inline F16v round_even(F16v a) {
  return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
inline F16v scale_by_power_of_two(F16v a, F16v n) {
  const __m512i bias = _mm512_set1_epi32(127);
  const __m512i whole = _mm512_cvttps_epi32(n.v);
  const __m512i half = _mm512_srai_epi32(whole, 1);
  const __m512i rest = _mm512_sub_epi32(whole, half);
  const __m512 first = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(half, bias), 23));
  const __m512 second = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(rest, bias), 23));
  return {_mm512_mul_ps(_mm512_mul_ps(a.v, first), second)};
}

inline Mask16 less(F16v a, F16v b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
inline Mask16 less_equal(F16v a, F16v b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ)}; }
inline Mask16 equal(F16v a, F16v b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ)}; }
inline Mask16 first_lanes(int n) { return {mask_of_first(n)}; }
inline Mask16 operator&(Mask16 a, Mask16 b) { return {static_cast<__mmask16>(a.bits & b.bits)}; }
inline Mask16 operator|(Mask16 a, Mask16 b) { return {static_cast<__mmask16>(a.bits | b.bits)}; }
inline F16v select(Mask16 m, F16v a, F16v b) { return {_mm512_mask_blend_ps(m.bits, b.v, a.v)}; }

inline float sum(F16v a) {
  const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(q, _mm_shuffle_ps(q, q, 1)));
}
inline float max_lane(F16v a) {
  const __m256 h = _mm256_max_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  __m128 q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  q = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ss(q, _mm_shuffle_ps(q, q, 1)));
}

}  // namespace
}  // namespace trireme
