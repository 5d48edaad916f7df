#include <charconv>
#include <cstdio>
#include <iterator>

#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "kernels/base/json.h"
#include "launcher/commands/commands.h"
#include "launcher/output.h"
#include "runtime/text/tokenizer.h"

namespace trireme {
namespace {

Result<std::string> read_stdin() {
  std::string text;
  char piece[1 << 16];
  size_t n = 0;
  while (text.size() <= kPromptBytesMax && (n = std::fread(piece, 1, sizeof piece, stdin)) > 0)
    text.append(piece, n);
  if (std::ferror(stdin) != 0) return data_loss("cannot read stdin");
  return text;
}

Result<std::vector<int32_t>> ids_of(std::string_view text) {
  std::vector<int32_t> ids;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at != end) {
    if (std::string_view(", \t\r\n[]").find(*at) != std::string_view::npos) {
      ++at;
      continue;
    }
    int32_t id = 0;
    const auto [next, error] = std::from_chars(at, end, id);
    if (error != std::errc() || id < 0)
      return invalid_argument(
          fmt::format("stdin holds no list of token ids at byte {}: write them "
                      "as 1 15 7 or [1, 15, 7]",
                      at - text.data()));
    ids.push_back(id);
    at = next;
  }
  return ids;
}

std::string join(const std::vector<int32_t>& ids) {
  std::string line;
  for (int32_t id : ids) line += fmt::format("{}{}", line.empty() ? "" : " ", id);
  return line;
}

Status decode(const Tokenizer& tokenizer, const TokenizeFlags& flags) {
  std::vector<int32_t> ids = flags.ids;
  if (ids.empty()) {
    const Result<std::string> text = read_stdin();
    if (!text.ok()) return text.status();
    Result<std::vector<int32_t>> read = ids_of(*text);
    if (!read.ok()) return read.status();
    ids = read.take();
  }
  std::string text = tokenizer.decode(ids, /*skip_special=*/false);
  if (!flags.json) return write_result(text + "\n");
  return write_result(boost::json::serialize(JsonObject{{"text", text}}) + "\n");
}

Status encode(const Tokenizer& tokenizer, const TokenizeFlags& flags) {
  Result<std::string> text = flags.text.has_value() ? *flags.text : read_stdin();
  if (!text.ok()) return text.status();
  const Result<std::vector<int32_t>> ids =
      tokenizer.encode(*text, {.add_special = flags.add_special, .parse_special = true});
  if (!ids.ok()) return ids.status();
  if (!flags.json) return write_result(join(*ids) + "\n");
  JsonArray tokens(ids->begin(), ids->end());
  const JsonObject result{{"count", ids->size()}, {"tokens", std::move(tokens)}};
  return write_result(boost::json::serialize(result) + "\n");
}

}  // namespace

int run_tokenize(const Deployment& deployment, const TokenizeFlags& flags) {
  RankWorld alone;
  const Result<std::unique_ptr<Tokenizer>> tokenizer =
      load_tokenizer(deployment.model.tokenizer.value_or(deployment.model.path));
  if (!tokenizer.ok()) return fail(alone, tokenizer.status(), Doing::kLoadingModel);
  const Status done = flags.decode ? decode(**tokenizer, flags) : encode(**tokenizer, flags);
  return done.ok() ? kExitOk : fail(alone, done, Doing::kRunning);
}

}  // namespace trireme
