// A string that knows which of its bytes came from a user: what a template writes may name special
// tokens, what users say may not. A plain value.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/tokenizer.h"

namespace trireme::jinja {

class Text {
 public:
  Text() = default;
  explicit Text(std::string bytes) : bytes_(std::move(bytes)) {}
  static Text from_user(std::string bytes);

  const std::string& str() const { return bytes_; }
  bool empty() const { return bytes_.empty(); }
  size_t size() const { return bytes_.size(); }
  // INVARIANT: ascending, not empty, not touching.
  const std::vector<TextRange>& user() const { return user_; }

  void append(const Text& other);
  void append(std::string_view template_bytes) { bytes_ += template_bytes; }
  Text sub(size_t begin, size_t bytes) const;
  // `bytes` made from this by something that loses track of places: of a user as a whole, if any of
  // this was.
  Text remade(std::string bytes) const;
  bool tainted() const { return !user_.empty(); }

 private:
  void mark(size_t begin, size_t end);
  std::string bytes_;
  std::vector<TextRange> user_;
};

}  // namespace trireme::jinja
