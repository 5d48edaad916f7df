// tokenize, convert: files of a model, without the model.
#include <charconv>

#include <fmt/format.h>

#include "launcher/cli_subcommand.h"
#include "runtime/config/nearest.h"

namespace trireme {
namespace {

Result<std::vector<int32_t>> parse_ids(std::string_view text) {
  std::vector<int32_t> ids;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at != end) {
    if (*at == ',' || *at == ' ') {
      ++at;
      continue;
    }
    int32_t id = 0;
    const auto [next, error] = std::from_chars(at, end, id);
    if (error != std::errc() || id < 0 || (next != end && *next != ',' && *next != ' '))
      return invalid_argument(
          fmt::format("--ids: '{}' is no list of token ids, as in 1,15,7", text));
    ids.push_back(id);
    at = next;
  }
  return ids;
}

Status check_tokenize(const Subcommand& sub, CommandLine& line) {
  if (!line.deployment.model.tokenizer.has_value()) {
    if (Status s = sub.need_model(line.deployment); !s.ok()) return s;
  }
  TokenizeFlags& tokenize = line.tokenize;
  if (sub.given("TEXT")) tokenize.text = sub.text_of("TEXT");
  if (tokenize.decode && tokenize.text.has_value())
    return sub.usage("--decode takes --ids or ids on stdin, no TEXT");
  if (!tokenize.decode && sub.given("--ids")) return sub.usage("--ids goes with --decode");
  Result<std::vector<int32_t>> ids = parse_ids(sub.text_of("--ids"));
  if (!ids.ok()) return ids.status();
  tokenize.ids = ids.take();
  return {};
}

Status check_convert(const Subcommand& sub, CommandLine& line) {
  const ConvertFlags& convert = line.convert;
  if (convert.out.empty()) return sub.usage("convert needs KIND IN OUT");
  static constexpr std::string_view kKinds[] = {"rwkv-pth"};
  if (convert.kind == kKinds[0]) return {};
  return sub.usage(fmt::format("convert does not know '{}'{}: it knows rwkv-pth", convert.kind,
                               did_you_mean(convert.kind, kKinds)));
}

}  // namespace

void add_file_commands(Subcommands& subcommands, CommandLine& line) {
  Subcommand& tokenize =
      subcommands.add(Command::kTokenize, "tokenize", "text to token ids, and back");
  tokenize.add_keys(model_flags());
  tokenize.add_switch("--decode", line.tokenize.decode, "token ids to text");
  tokenize.add_text("--ids", "ID,ID,...", "the ids to decode (default: from stdin)");
  tokenize.add_switch("--no-special", line.tokenize.add_special,
                      "without the tokens that the tokenizer puts around a text", false);
  tokenize.add_text("TEXT", "TEXT", "the text (default: from stdin)");
  tokenize.add_switch("--json", line.tokenize.json, "the result as JSON");
  tokenize.set_check(check_tokenize);

  Subcommand& convert =
      subcommands.add(Command::kConvert, "convert", "checkpoints of other formats");
  convert.add_text("KIND", "KIND", "rwkv-pth: a .pth file of RWKV to .safetensors",
                   &line.convert.kind);
  convert.add_text("IN", "IN", "the file to read", &line.convert.in);
  convert.add_text("OUT", "OUT", "the file to write", &line.convert.out);
  convert.set_check(check_convert);
}

}  // namespace trireme
