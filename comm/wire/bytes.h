// Plain values to bytes and back, for messages between ranks and workers: little-endian, no
// padding, lengths before what they count.
//
// Who reads must not trust who wrote: a ByteReader never reads beyond its bytes, never allocates
// more than they could hold, and remembers that it failed, so that a message is read straight
// through and asked once at the end whether it was whole.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "kernels/base/status.h"

namespace trireme {

template <class T>
concept WireNumber = std::is_arithmetic_v<T>;

class ByteWriter {
 public:
  template <WireNumber T>
  void number(T value) {
    const auto* bytes = reinterpret_cast<const std::byte*>(&value);
    bytes_.insert(bytes_.end(), bytes, bytes + sizeof(T));
  }
  void text(std::string_view value) {
    number(static_cast<uint32_t>(value.size()));
    append(value.data(), value.size());
  }
  template <WireNumber T>
  void numbers(std::span<const T> values) {
    number(static_cast<uint32_t>(values.size()));
    append(values.data(), values.size_bytes());
  }
  template <WireNumber T>
  void numbers(const std::vector<T>& values) {
    numbers(std::span<const T>(values));
  }

  std::span<const std::byte> bytes() const { return bytes_; }
  void clear() { bytes_.clear(); }

 private:
  void append(const void* data, size_t size) {
    const auto* bytes = static_cast<const std::byte*>(data);
    bytes_.insert(bytes_.end(), bytes, bytes + size);
  }
  std::vector<std::byte> bytes_;
};

class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : left_(bytes) {}

  // A value, or zero where the bytes have ended.
  template <WireNumber T>
  T number() {
    T value{};
    if (take(sizeof(T))) std::memcpy(&value, taken_, sizeof(T));
    return value;
  }
  // One byte, 0 or 1. Anything else is a failure, so that one message has one form.
  bool flag() {
    const auto value = number<uint8_t>();
    if (value > 1) failed_ = true;
    return value == 1;
  }
  std::string text() {
    const auto size = number<uint32_t>();
    return take(size) ? std::string(reinterpret_cast<const char*>(taken_), size) : std::string();
  }
  template <WireNumber T>
  std::vector<T> numbers() {
    const auto count = number<uint32_t>();
    std::vector<T> values;
    if (!take(uint64_t{count} * sizeof(T))) return values;
    values.resize(count);
    if (count > 0) std::memcpy(values.data(), taken_, count * sizeof(T));
    return values;
  }
  // How many things follow, each of at least `bytes_min` bytes: what the rest cannot hold is a
  // failure, and 0.
  uint32_t count(size_t bytes_min) {
    const auto n = number<uint32_t>();
    if (uint64_t{n} * bytes_min <= left_.size()) return n;
    failed_ = true;
    return 0;
  }

  bool failed() const { return failed_; }
  // Ok where everything asked for was there and nothing is left over.
  Status finish(std::string_view what) const {
    if (!failed_ && left_.empty()) return {};
    return data_loss(std::string(what) + (failed_
                                              ? " ends before its time, or says neither yes nor no"
                                              : " has bytes that nobody asked for"));
  }

 private:
  bool take(uint64_t size) {
    if (failed_ || size > left_.size()) {
      failed_ = true;
      return false;
    }
    taken_ = left_.data();
    left_ = left_.subspan(static_cast<size_t>(size));
    return true;
  }
  std::span<const std::byte> left_;
  const std::byte* taken_ = nullptr;
  bool failed_ = false;
};

}  // namespace trireme
