#include "launcher/client/sse_parser.h"

#include <fmt/format.h>

namespace trireme {

Status SseParser::feed(std::string_view bytes, const OnEvent& on_event) {
  while (!bytes.empty()) {
    if (skip_lf_ && bytes[0] == '\n') bytes.remove_prefix(1);
    skip_lf_ = false;
    const size_t end = bytes.find_first_of("\r\n");
    const std::string_view piece = bytes.substr(0, end);
    if (line_.size() + data_.size() + piece.size() > max_)
      return data_loss(fmt::format("the server sent an event of more than {} bytes", max_));
    line_ += piece;
    if (end == std::string_view::npos) break;
    skip_lf_ = bytes[end] == '\r';
    bytes.remove_prefix(end + 1);
    if (!end_line(on_event)) return {StatusCode::kCancelled, "the reader has stopped"};
  }
  return {};
}

bool SseParser::end_line(const OnEvent& on_event) {
  if (line_.empty()) {
    if (!has_data_) return true;
    has_data_ = false;
    const std::string data = std::move(data_);
    data_.clear();
    return on_event(data);
  }
  std::string_view line = line_;
  if (line.starts_with("data") && (line.size() == 4 || line[4] == ':')) {
    line.remove_prefix(line.size() == 4 ? 4 : 5);
    if (line.starts_with(' ')) line.remove_prefix(1);
    if (has_data_) data_ += '\n';
    data_ += line;
    has_data_ = true;
  }
  line_.clear();
  return true;
}

}  // namespace trireme
