// Jinja as transformers runs it for chat templates: trim_blocks, lstrip_blocks, loop controls, no
// files, no includes. A template is immutable and may be rendered from many threads.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/base/status.h"
#include "runtime/chat/jinja/value.h"

namespace trireme::jinja {

// Templates come with models, which come from anywhere.
struct Limits {
  size_t source_bytes_max = size_t{1} << 20;
  size_t steps_max = 5'000'000;  // nodes evaluated
  size_t output_bytes_max = size_t{64} << 20;
  size_t depth_max = 100;  // macros that call macros, loops that recurse
};

struct Node;

class Template {
 public:
  // kInvalidArgument: one sentence with the line.
  static Result<Template> parse(std::string_view source, const Limits& limits = {});
  Template(Template&&) noexcept;
  Template& operator=(Template&&) noexcept;
  ~Template();

  using Globals = std::vector<std::pair<std::string, Value>>;
  // kInvalidArgument: what the template refuses (raise_exception), in its own words; or what went
  // wrong, with the line.
  Result<Text> render(const Globals& globals) const;

 private:
  Template(std::unique_ptr<Node> root, const Limits& limits);
  std::unique_ptr<Node> root_;
  Limits limits_;
};

}  // namespace trireme::jinja
