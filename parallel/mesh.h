// Which rank stands where. Pure arithmetic: no communication, no global rank.
#pragma once

#include <cstdint>

#include "kernels/base/check.h"

namespace trireme {

struct Coordinate {
  int stage = 0;  // pipeline stage
  int shard = 0;  // tensor shard
};

// The ranks of one worker as a grid. Shards of a stage are neighbours, so that tensor parallelism
// stays inside a machine.
struct Mesh {
  int stages = 1;
  int shards = 1;
  int size() const { return stages * shards; }
  int rank(Coordinate c) const { return c.stage * shards + c.shard; }
  Coordinate coordinate(int rank) const { return {rank / shards, rank % shards}; }
};

// A half-open range [first, first + count).
struct Range {
  int64_t first = 0;
  int64_t count = 0;
  int64_t end() const { return first + count; }
  bool operator==(const Range&) const = default;
};

// Part `index` of [0, extent) cut into `count` parts whose sizes differ by at most one; all parts
// are equal where count divides extent.
inline Range shard_range(int64_t extent, int index, int count) {
  CHECK(count > 0 && index >= 0 && index < count);
  const int64_t first = extent * index / count;
  return {first, extent * (index + 1) / count - first};
}

// Like shard_range, for a width that may be cut anywhere: at multiples of 32, where every shard
// gets some, so that the cut goes through no group of quantized weights and no vector.
inline Range shard_width(int64_t width, int index, int count) {
  constexpr int64_t kUnit = 32;
  if (width < kUnit * count) return shard_range(width, index, count);
  const Range units = shard_range((width + kUnit - 1) / kUnit, index, count);
  const int64_t first = units.first * kUnit, end = units.end() * kUnit;
  return {first, (end < width ? end : width) - first};
}

// Like shard_range, in units of `unit` elements (a head's width, say). REQUIRES: extent % unit ==
// 0.
inline Range shard_units(int64_t extent, int64_t unit, int index, int count) {
  CHECK(unit > 0 && extent % unit == 0);
  const Range units = shard_range(extent / unit, index, count);
  return {units.first * unit, units.count * unit};
}

// Part `index` of a vocabulary, padded so that all parts are equally long (an all-gather needs
// that): rows at or beyond `vocab` are padding.
inline Range vocab_range(int64_t vocab, int index, int count) {
  const int64_t part = (vocab + count - 1) / count;
  return {part * index, part};
}

}  // namespace trireme
