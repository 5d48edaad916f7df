#include "launcher/client/bench_options.h"

#include <charconv>

#include <fmt/format.h>

namespace trireme {
namespace {

bool parse_number(std::string_view text, double& value) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

}  // namespace

Status add_goodput(const std::string& text, Goodput& goodput) {
  const size_t colon = text.find(':');
  const std::string name = text.substr(0, colon);
  std::optional<double>* target = name == "ttft"   ? &goodput.ttft
                                  : name == "tpot" ? &goodput.tpot
                                  : name == "e2el" ? &goodput.e2el
                                                   : nullptr;
  double value = 0;
  if (target == nullptr || colon == std::string::npos ||
      !parse_number(std::string_view(text).substr(colon + 1), value) || !(value > 0))
    return invalid_argument(fmt::format(
        "--goodput: '{}' is none of ttft:MS, tpot:MS, e2el:MS with milliseconds above 0", text));
  *target = value;
  return {};
}

Result<Assertion> parse_assertion(const std::string& text) {
  const size_t at = text.find_first_of("<>");
  Assertion assertion{text, text.substr(0, at), "", 0};
  while (assertion.name.ends_with(' ')) assertion.name.pop_back();
  if (at != std::string::npos) {
    assertion.op = text.substr(at, at + 1 < text.size() && text[at + 1] == '=' ? 2 : 1);
    if (!assertion.name.empty() &&
        parse_number(std::string_view(text).substr(at + assertion.op.size()), assertion.bound))
      return assertion;
  }
  return invalid_argument(fmt::format(
      "--assert: '{}' is no comparison of a result with a number, as in 'ttft_p99<500'", text));
}

}  // namespace trireme
