// Server-sent events out of bytes that come in any pieces (WHATWG HTML, 9.2.6): lines end with LF,
// CRLF or CR, comments and fields other than "data" are skipped, an event ends with an empty line.
// One thread; bounded memory.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

#include "kernels/base/status.h"

namespace trireme {

class SseParser {
 public:
  // Returns whether to go on.
  using OnEvent = std::function<bool(std::string_view data)>;

  explicit SseParser(size_t event_bytes_max = size_t{16} << 20) : max_(event_bytes_max) {}

  // Calls on_event for every event that `bytes` completes, in order. kCancelled where on_event
  // returned false (the rest of the bytes is dropped), kDataLoss where an event is longer than the
  // maximum.
  Status feed(std::string_view bytes, const OnEvent& on_event);

  // Whether an event has begun that no empty line has ended.
  bool inside_event() const { return !line_.empty() || has_data_; }

 private:
  bool end_line(const OnEvent& on_event);

  const size_t max_;
  std::string line_;  // INVARIANT: line_.size() + data_.size() <= max_
  std::string data_;
  bool has_data_ = false;
  bool skip_lf_ = false;  // the last byte was a CR: an LF belongs to it
};

}  // namespace trireme
