// The tokenizer of RWKV World: a vocabulary of byte strings, and the longest that fits, again and
// again, from left to right. No normalization, no regular expression, no special tokens in text.
//
// A line of the file: <id> <Python literal, str or bytes> <length in bytes>. Id 0 is not in the
// file: it ends a document.
#include <charconv>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include "runtime/text/byte_trie.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/utf8.h"

namespace trireme {
namespace {

constexpr int64_t kIdsMax = int64_t{1} << 20;
constexpr size_t kTokenBytesMax = 1024;  // encoding takes at most this many steps per byte
constexpr int32_t kEndOfDocument = 0;

class RwkvTokenizer : public Tokenizer {
 public:
  Status parse(std::string_view text);

  Result<std::vector<int32_t>> encode(std::string_view utf8, const EncodeOptions&) const override {
    Status good = check_prompt(utf8);
    if (!good.ok()) return good;
    std::vector<int32_t> ids;
    ids.reserve(utf8.size() / 3 + 16);
    for (size_t i = 0; i < utf8.size();) {
      const ByteTrie::Found found = trie_.longest_prefix(utf8.substr(i, kTokenBytesMax));
      CHECK(found.value > 0) << "every byte is a token";
      ids.push_back(found.value);
      i += found.bytes;
    }
    return ids;
  }
  int32_t vocab_size() const override { return static_cast<int32_t>(tokens_.size()); }
  std::optional<int32_t> token_id(std::string_view content) const override {
    const ByteTrie::Found found = trie_.longest_prefix(content);
    if (found.value < 0 || found.bytes != content.size()) return std::nullopt;
    return found.value;
  }
  TokenText token_text(int32_t id, bool) const override {
    if (id == kEndOfDocument) return {{}, true, true, false};
    if (id < 0 || id >= vocab_size()) return {};
    const std::string& token = tokens_[static_cast<size_t>(id)];
    return {token, !token.empty(), false, false};
  }
  const TextRules& text_rules() const override { return rules_; }

 private:
  Status add_line(std::string_view line);

  std::vector<std::string> tokens_;  // by id; empty: no token
  ByteTrie trie_;
  TextRules rules_;
};

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// The bytes of a Python literal: '...', "..." or b'...', with the escapes \n \t \r \\ \' \" \xNN
// and, in a str, \uNNNN and \UNNNNNNNN. In a str \xNN is a code point, in bytes a byte. The error
// is what is wrong with it.
Result<std::string> parse_literal(std::string_view literal) {
  const bool is_bytes = literal.starts_with('b');
  if (is_bytes) literal.remove_prefix(1);
  if (literal.size() < 2 || (literal[0] != '\'' && literal[0] != '"') ||
      literal.back() != literal[0]) {
    return invalid_argument("is not in quotes");
  }
  const char quote = literal[0];
  literal = literal.substr(1, literal.size() - 2);
  std::string out;
  for (size_t i = 0; i < literal.size();) {
    const char c = literal[i++];
    if (c == quote) return invalid_argument("has a quote inside that is not escaped");
    if (c != '\\') {
      if (is_bytes && (c & 0x80) != 0) return invalid_argument("is bytes, but not in ASCII");
      out.push_back(c);
      continue;
    }
    if (i == literal.size()) return invalid_argument("ends in the middle of an escape");
    const char escape = literal[i++];
    constexpr std::string_view kEscapes = "ntr\\'\"";
    constexpr std::string_view kValues = "\n\t\r\\'\"";
    const size_t simple = kEscapes.find(escape);
    if (simple != std::string_view::npos) {
      out.push_back(kValues[simple]);
      continue;
    }
    const size_t digits = escape == 'x'                ? 2
                          : escape == 'u' && !is_bytes ? 4
                          : escape == 'U' && !is_bytes ? 8
                                                       : 0;
    if (digits == 0) return invalid_argument(fmt::format("has the unknown escape \\{}", escape));
    uint32_t value = 0;
    for (size_t d = 0; d < digits; ++d) {
      const int digit = i < literal.size() ? hex_digit(literal[i++]) : -1;
      if (digit < 0) return invalid_argument("has an escape without its digits");
      value = value * 16 + static_cast<uint32_t>(digit);
    }
    if (value > 0x10FFFF || (value >= 0xD800 && value < 0xE000)) {
      return invalid_argument("has an escape that is no character");
    }
    if (is_bytes) {
      out.push_back(static_cast<char>(value));
    } else {
      append_utf8(value, out);
    }
  }
  return out;
}

// A decimal number that fills `text`, or -1.
int64_t parse_number(std::string_view text) {
  int64_t number = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() ? number : -1;
}

Status RwkvTokenizer::add_line(std::string_view line) {
  const size_t first = line.find(' ');
  const size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) {
    return invalid_argument("is not '<id> <literal> <length>'");
  }
  const int64_t id = parse_number(line.substr(0, first));
  if (id < 1 || id >= kIdsMax) {
    return invalid_argument(fmt::format("has an id that is not in 1 to {}", kIdsMax - 1));
  }
  Result<std::string> token = parse_literal(line.substr(first + 1, last - first - 1));
  if (!token.ok()) return token.status();
  if (token->empty() || token->size() > kTokenBytesMax) {
    return invalid_argument(fmt::format("has a token of {} bytes; it has to have 1 to {}",
                                        token->size(), kTokenBytesMax));
  }
  if (parse_number(line.substr(last + 1)) != static_cast<int64_t>(token->size())) {
    return invalid_argument(
        fmt::format("says {} bytes, but its token has {}", line.substr(last + 1), token->size()));
  }
  if (static_cast<size_t>(id) >= tokens_.size()) tokens_.resize(static_cast<size_t>(id) + 1);
  if (!tokens_[static_cast<size_t>(id)].empty()) {
    return invalid_argument(fmt::format("repeats the id {}", id));
  }
  tokens_[static_cast<size_t>(id)] = token.take();
  return {};
}

Status RwkvTokenizer::parse(std::string_view text) {
  const std::optional<size_t> bad = utf8_error(text);
  if (bad) return invalid_argument(fmt::format("not valid UTF-8 at byte {}", *bad));
  size_t number = 0;
  while (!text.empty()) {
    ++number;
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    Status status = add_line(line);
    if (!status.ok()) {
      return invalid_argument(fmt::format("line {} {}", number, status.message()));
    }
  }
  std::vector<std::pair<std::string_view, int32_t>> entries;
  bool is_token[256] = {};
  for (size_t id = 1; id < tokens_.size(); ++id) {
    if (tokens_[id].empty()) continue;
    entries.emplace_back(tokens_[id], static_cast<int32_t>(id));
    if (tokens_[id].size() == 1) is_token[static_cast<uint8_t>(tokens_[id][0])] = true;
  }
  for (size_t byte = 0; byte < 256; ++byte) {
    if (!is_token[byte]) {
      return invalid_argument(
          fmt::format("the byte 0x{:02X} has no token of its own; is the file cut short?", byte));
    }
  }
  const int64_t repeated = trie_.build(entries);
  if (repeated >= 0) {
    return invalid_argument(fmt::format("the token of id {} is listed twice",
                                        entries[static_cast<size_t>(repeated)].second));
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> parse_rwkv_vocab(std::string_view text) {
  auto tokenizer = std::make_unique<RwkvTokenizer>();
  Status status = tokenizer->parse(text);
  if (!status.ok()) return status;
  return std::unique_ptr<Tokenizer>(std::move(tokenizer));
}

}  // namespace trireme
