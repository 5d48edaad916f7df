#include "runtime/text/added_tokens.h"

#include <algorithm>
#include <utility>

#include "runtime/text/utf8.h"

namespace trireme {
namespace {

// Looking for tokens takes at most this many steps per byte of text.
constexpr size_t kContentBytesMax = 1024;
// \w of Rust's regex crate.
constexpr std::string_view kWordCharacter = R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200C}\x{200D}])";

size_t white_space_end(std::string_view text, size_t from) {
  while (from < text.size()) {
    const CodePoint point = code_point_at(text, from);
    if (!is_white_space(point.value)) break;
    from += point.bytes;
  }
  return from;
}

// The beginning of the white space that ends at `to`, not before `stop`.
size_t white_space_begin(std::string_view text, size_t to, size_t stop) {
  while (to > stop) {
    const CodePoint point = code_point_before(text, to);
    if (!is_white_space(point.value)) break;
    to -= point.bytes;
  }
  return std::max(to, stop);
}

}  // namespace

Result<AddedTokens> AddedTokens::parse(const JsonField& field, const BpeModel& model,
                                       const Normalizer& normalizer) {
  AddedTokens added;
  if (!field.has_value()) return added;
  Result<const JsonArray*> list = field.array();
  if (!list.ok()) return list.status();
  int32_t next_id = static_cast<int32_t>(model.size());
  for (size_t i = 0; i < (*list)->size(); ++i) {
    Result<Token> token = parse_token(field[i]);
    if (!token.ok()) return token.status();
    if (token->content.empty()) continue;
    Status status = added.add(token.take(), field[i], model, next_id);
    if (!status.ok()) return status;
  }
  Status status = added.build(field, normalizer);
  if (!status.ok()) return status;
  return added;
}

Result<AddedTokens::Token> AddedTokens::parse_token(const JsonField& field) {
  Token token;
  Result<int64_t> id = field["id"].integer(kTokenIdsMax - 1);
  if (!id.ok()) return id.status();
  token.id = static_cast<int32_t>(*id);
  Result<std::string> content = field["content"].string();
  if (!content.ok()) return content.status();
  token.content = content.take();
  if (token.content.size() > kContentBytesMax) {
    return field["content"].error(
        fmt::format("has {} bytes; the limit is {}", token.content.size(), kContentBytesMax));
  }
  const std::pair<std::string_view, bool*> flags[] = {{"single_word", &token.single_word},
                                                      {"lstrip", &token.lstrip},
                                                      {"rstrip", &token.rstrip},
                                                      {"normalized", &token.normalized},
                                                      {"special", &token.special}};
  for (const auto& [name, flag] : flags) {
    Result<bool> value = field[name].boolean();
    if (!value.ok()) return value.status();
    *flag = *value;
  }
  return token;
}

Status AddedTokens::add(Token token, const JsonField& field, const BpeModel& model,
                        int32_t& next_id) {
  const auto known = by_content_.find(token.content);
  const std::optional<int32_t> model_id = model.id_of(token.content);
  const int32_t id = known != by_content_.end() ? tokens_[known->second].id
                     : model_id                 ? *model_id
                                                : next_id++;
  if (id != token.id) {
    return field.error(fmt::format(
        "('{}') has the id {}, but HF tokenizers would use {}: make the file's ids consistent",
        token.content, token.id, id));
  }
  ids_end_ = std::max(ids_end_, id + 1);
  if (known != by_content_.end()) {
    token.special = token.special || tokens_[known->second].special;
    tokens_[known->second] = std::move(token);
    return {};
  }
  if (!by_id_.emplace(id, tokens_.size()).second) {
    return field.error(fmt::format("('{}') has the id {}, as has '{}'", token.content, id,
                                   tokens_[by_id_[id]].content));
  }
  by_content_.emplace(token.content, tokens_.size());
  tokens_.push_back(std::move(token));
  return {};
}

Status AddedTokens::build(const JsonField& field, const Normalizer& normalizer) {
  std::vector<std::pair<std::string_view, int32_t>> raw;
  std::vector<std::pair<std::string_view, int32_t>> normalized;
  Regex::Scratch scratch;
  for (Token& token : tokens_) {
    token.decoded = token.content;
    if (token.single_word && !word_) {
      Result<Regex> word = Regex::compile(kWordCharacter);
      if (!word.ok()) return word.status();
      word_ = word.take();
    }
    if (!token.normalized) continue;
    NormalizedText text = unnormalized(token.content, false);
    Status status = normalizer.apply(text, scratch);
    if (!status.ok()) return status.at(field.path());
    token.decoded = std::move(text.text);
    if (token.decoded.size() > 16 * kContentBytesMax) {
      return field.error(fmt::format("has '{}', whose normalized form has {} bytes", token.content,
                                     token.decoded.size()));
    }
  }
  for (size_t i = 0; i < tokens_.size(); ++i) {
    (tokens_[i].normalized ? normalized : raw)
        .emplace_back(tokens_[i].decoded, static_cast<int32_t>(i));
  }
  raw_.build(raw);  // contents differ and are not empty
  const int64_t repeated = normalized_.build(normalized);
  if (repeated >= 0) {
    return field.error(fmt::format(
        "has '{}', whose normalized form '{}' is empty or that of another token",
        tokens_[static_cast<size_t>(normalized[static_cast<size_t>(repeated)].second)].content,
        normalized[static_cast<size_t>(repeated)].first));
  }
  return {};
}

namespace {

bool touches(std::span<const TextRange> ranges, size_t begin, size_t end) {
  const auto first = std::partition_point(ranges.begin(), ranges.end(),
                                          [&](const TextRange& r) { return r.end <= begin; });
  return first != ranges.end() && first->begin < end;
}

}  // namespace

Status AddedTokens::find_raw(std::string_view text, bool parse_special,
                             std::span<const TextRange> untrusted, Regex::Scratch& scratch,
                             std::vector<Stretch>& stretches) const {
  return find(raw_, text, parse_special, untrusted, scratch, stretches);
}

Status AddedTokens::find_normalized(std::string_view text, bool parse_special,
                                    Regex::Scratch& scratch,
                                    std::vector<Stretch>& stretches) const {
  return find(normalized_, text, parse_special, {}, scratch, stretches);
}

// Whether a word character touches text[begin, end) on either side.
Result<bool> AddedTokens::inside_word(std::string_view text, size_t begin, size_t end,
                                      Regex::Scratch& scratch) const {
  std::string neighbours;
  if (begin > 0) append_utf8(code_point_before(text, begin).value, neighbours);
  if (end < text.size()) append_utf8(code_point_at(text, end).value, neighbours);
  std::vector<Regex::Match> matches;
  Status status = word_->find_all(neighbours, scratch, matches);
  if (!status.ok()) return status;
  return !matches.empty();
}

Status AddedTokens::find(const ByteTrie& trie, std::string_view text, bool parse_special,
                         std::span<const TextRange> untrusted, Regex::Scratch& scratch,
                         std::vector<Stretch>& stretches) const {
  stretches.clear();
  size_t done = 0;
  // text[white_space_from, white_space_to) is known to be white space that ends there: a run of n
  // spaces is not read n times.
  size_t white_space_from = 1;
  size_t white_space_to = 0;
  for (size_t i = 0; !trie.empty() && i < text.size();) {
    const ByteTrie::Found found = trie.longest_prefix(text.substr(i));
    if (found.value < 0) {
      ++i;  // tokens are whole characters: none begins inside one
      continue;
    }
    size_t begin = i;
    size_t end = i + found.bytes;
    i = end;
    const Token& token = tokens_[static_cast<size_t>(found.value)];
    if (token.special && (!parse_special || touches(untrusted, begin, end))) continue;
    if (token.single_word) {
      const Result<bool> inside = inside_word(text, begin, end, scratch);
      if (!inside.ok()) return inside.status();
      if (*inside) continue;
    }
    if (token.lstrip) begin = std::max(white_space_begin(text, begin, std::min(done, begin)), done);
    if (token.rstrip) {
      if (end < white_space_from || end > white_space_to) {
        white_space_from = end;
        white_space_to = white_space_end(text, end);
      }
      end = white_space_to;
    }
    if (done < begin) stretches.push_back({done, begin, -1});
    // The white space that makes up this token went to the one before it: no token, as in HF.
    if (begin < end) stretches.push_back({begin, end, token.id});
    done = end;
  }
  if (done < text.size()) stretches.push_back({done, text.size(), -1});
  return {};
}

std::optional<int32_t> AddedTokens::id_of(std::string_view content) const {
  const auto found = by_content_.find(std::string(content));
  if (found == by_content_.end()) return std::nullopt;
  return tokens_[found->second].id;
}

const AddedTokens::Token* AddedTokens::token_of(int32_t id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : &tokens_[found->second];
}

const std::string* AddedTokens::string_of(int32_t id) const {
  const Token* token = token_of(id);
  return token == nullptr ? nullptr : &token->decoded;
}

bool AddedTokens::is_special(int32_t id) const {
  // As in HF, what is asked is whether the decoded string is the content of a special token.
  const Token* token = token_of(id);
  if (token == nullptr) return false;
  const auto found = by_content_.find(token->decoded);
  return found != by_content_.end() && tokens_[found->second].special;
}

}  // namespace trireme
