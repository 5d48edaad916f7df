#include "runtime/chat/jinja/text.h"

#include <algorithm>

namespace trireme::jinja {

Text Text::from_user(std::string bytes) {
  Text text(std::move(bytes));
  text.mark(0, text.bytes_.size());
  return text;
}

void Text::mark(size_t begin, size_t end) {
  if (begin == end) return;
  if (!user_.empty() && user_.back().end == begin) {
    user_.back().end = end;
  } else {
    user_.push_back({begin, end});
  }
}

void Text::append(const Text& other) {
  const size_t base = bytes_.size();
  bytes_ += other.bytes_;
  const size_t count = other.user_.size();  // `other` may be *this
  for (size_t i = 0; i < count; ++i) mark(base + other.user_[i].begin, base + other.user_[i].end);
}

Text Text::sub(size_t begin, size_t bytes) const {
  begin = std::min(begin, bytes_.size());
  bytes = std::min(bytes, bytes_.size() - begin);
  Text part(bytes_.substr(begin, bytes));
  for (const TextRange& r : user_) {
    const size_t from = std::max(r.begin, begin), to = std::min(r.end, begin + bytes);
    if (from < to) part.mark(from - begin, to - begin);
  }
  return part;
}

Text Text::remade(std::string bytes) const {
  return tainted() ? from_user(std::move(bytes)) : Text(std::move(bytes));
}

}  // namespace trireme::jinja
