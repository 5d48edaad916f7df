#include "runtime/chat/jinja/template.h"

#include <fmt/format.h>

#include "runtime/chat/jinja/run.h"

namespace trireme::jinja {

Template::Template(std::unique_ptr<Node> root, const Limits& limits)
    : root_(std::move(root)), limits_(limits) {}
Template::Template(Template&&) noexcept = default;
Template& Template::operator=(Template&&) noexcept = default;
Template::~Template() = default;

Result<Template> Template::parse(std::string_view source, const Limits& limits) {
  if (source.size() > limits.source_bytes_max)
    return invalid_argument(fmt::format("the template has {} bytes: at most {} are allowed",
                                        source.size(), limits.source_bytes_max));
  try {
    return Template(parse_template(source), limits);
  } catch (const SyntaxError& e) {
    return invalid_argument(fmt::format("line {}: {}", e.line, e.message));
  }
}

Result<Text> Template::render(const Globals& globals) const {
  Run run(limits_, globals);
  try {
    return run.render(*root_);
  } catch (const Raised& raised) {
    return invalid_argument(raised.message);
  } catch (const Failure& failure) {
    return invalid_argument(fmt::format("line {}: {}", run.line(), failure.message));
  }
}

}  // namespace trireme::jinja
