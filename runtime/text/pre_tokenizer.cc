#include "runtime/text/pre_tokenizer.h"

#include <algorithm>
#include <utility>

#include "runtime/text/byte_level.h"
#include "runtime/text/normalizer.h"
#include "runtime/text/split.h"
#include "runtime/text/utf8.h"

namespace trireme {
namespace {

// GPT-2's pattern, which ByteLevel uses when use_regex is set.
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
// \w of Rust's regex crate, which the Whitespace pre-tokenizer uses.
#define RUST_WORD R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200C}\x{200D})"
constexpr std::string_view kWhitespacePattern = "[" RUST_WORD "]+|[^" RUST_WORD "\\s]+";
#undef RUST_WORD
constexpr std::string_view kPunctuationPattern = R"([!-/:-@\x{5B}-\x{60}\x{7B}-\x{7E}\p{P}])";

// Rebuilds the text of a list, piece by piece; pieces that are tokens are carried over.
class Rebuild {
 public:
  explicit Rebuild(PieceList& list) : list_(list) {
    text_.reserve(list.text.size());
    pieces_.reserve(list.pieces.size());
  }
  std::string& text() { return text_; }
  void keep_token(const PieceList::Piece& piece) {
    pieces_.push_back({here(), here(), piece.token, piece.origin_bytes});
  }
  // A new piece: what was appended to text() since it had `begin` bytes.
  void add(size_t begin, size_t origin_bytes) {
    if (begin < text_.size()) {
      pieces_.push_back(
          {static_cast<uint32_t>(begin), here(), -1, static_cast<uint32_t>(origin_bytes)});
    }
  }
  Status check_length() const {
    if (text_.size() <= kTextBytesMax) return {};
    return resource_exhausted(
        fmt::format("the text grows beyond {} bytes in the tokenizer", kTextBytesMax));
  }
  void finish() {
    list_.text = std::move(text_);
    list_.pieces = std::move(pieces_);
  }

 private:
  uint32_t here() const { return static_cast<uint32_t>(text_.size()); }
  PieceList& list_;
  std::string text_;
  std::vector<PieceList::Piece> pieces_;
};

class SplitStep : public PreTokenizerStep {
 public:
  SplitStep(Pattern pattern, SplitBehavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}

  Status apply(PieceList& list, Regex::Scratch& scratch) const override {
    std::vector<PieceList::Piece> pieces;
    pieces.reserve(list.pieces.size());
    std::vector<Regex::Match> matches;
    std::vector<Span> parts;
    for (const PieceList::Piece& piece : list.pieces) {
      if (piece.token >= 0) {
        pieces.push_back(piece);
        continue;
      }
      matches.clear();
      Status found = pattern_.find_all(list.view(piece), scratch, matches);
      if (!found.ok()) return found;
      split_at(matches, piece.end - piece.begin, behavior_, invert_, parts);
      for (const Span& part : parts) {
        pieces.push_back({static_cast<uint32_t>(piece.begin + part.begin),
                          static_cast<uint32_t>(piece.begin + part.end), -1,
                          origin_bytes_of(piece.origin_bytes, part.begin, part.end)});
      }
    }
    list.pieces = std::move(pieces);
    return {};
  }

 private:
  Pattern pattern_;
  SplitBehavior behavior_;
  bool invert_;
};

class PrefixSpace : public PreTokenizerStep {
 public:
  Status apply(PieceList& list, Regex::Scratch&) const override {
    Rebuild rebuild(list);
    for (const PieceList::Piece& piece : list.pieces) {
      if (piece.token >= 0) {
        rebuild.keep_token(piece);
        continue;
      }
      const size_t begin = rebuild.text().size();
      const std::string_view text = list.view(piece);
      const bool prefixed = !text.starts_with(' ');
      if (prefixed) rebuild.text().push_back(' ');
      rebuild.text().append(text);
      rebuild.add(begin, piece.origin_bytes > 0 ? piece.origin_bytes + prefixed : 0);
      Status status = rebuild.check_length();
      if (!status.ok()) return status;
    }
    rebuild.finish();
    return {};
  }
};

class ByteLevelAlphabet : public PreTokenizerStep {
 public:
  Status apply(PieceList& list, Regex::Scratch&) const override {
    Rebuild rebuild(list);
    for (const PieceList::Piece& piece : list.pieces) {
      if (piece.token >= 0) {
        rebuild.keep_token(piece);
        continue;
      }
      const size_t begin = rebuild.text().size();
      append_byte_level(list.view(piece).substr(0, piece.origin_bytes), rebuild.text());
      const size_t origin_bytes = rebuild.text().size() - begin;
      append_byte_level(list.view(piece).substr(piece.origin_bytes), rebuild.text());
      rebuild.add(begin, origin_bytes);
      Status status = rebuild.check_length();
      if (!status.ok()) return status;
    }
    rebuild.finish();
    return {};
  }
};

enum class PrependScheme : uint8_t { kFirst, kAlways, kNever };

// Spaces become `replacement`, which may be put before a piece too.
class MetaspaceStep : public PreTokenizerStep {
 public:
  MetaspaceStep(std::string replacement, PrependScheme scheme)
      : replacement_(std::move(replacement)), scheme_(scheme) {}

  Status apply(PieceList& list, Regex::Scratch&) const override {
    Rebuild rebuild(list);
    for (const PieceList::Piece& piece : list.pieces) {
      if (piece.token >= 0) {
        rebuild.keep_token(piece);
        continue;
      }
      const size_t begin = rebuild.text().size();
      const std::string_view text = list.view(piece);
      const bool wanted = scheme_ == PrependScheme::kAlways ||
                          (scheme_ == PrependScheme::kFirst && piece.origin_bytes > 0);
      if (wanted && !text.starts_with(' ') && !text.starts_with(replacement_)) {
        rebuild.text().append(replacement_);
      }
      size_t origin_bytes = 0;
      for (size_t i = 0; i < text.size(); ++i) {
        if (text[i] == ' ') {
          rebuild.text().append(replacement_);
        } else {
          rebuild.text().push_back(text[i]);
        }
        if (i < piece.origin_bytes) origin_bytes = rebuild.text().size() - begin;
      }
      rebuild.add(begin, origin_bytes);
      Status status = rebuild.check_length();
      if (!status.ok()) return status;
    }
    rebuild.finish();
    return {};
  }

 private:
  std::string replacement_;
  PrependScheme scheme_;
};

using Steps = std::vector<std::unique_ptr<PreTokenizerStep>>;

Status add_split(std::string_view regex, SplitBehavior behavior, bool invert, Steps& steps) {
  Result<Pattern> pattern = Pattern::regex(regex);
  if (!pattern.ok()) return pattern.status();
  steps.push_back(std::make_unique<SplitStep>(pattern.take(), behavior, invert));
  return {};
}

Result<SplitBehavior> parse_behavior(const JsonField& field) {
  Result<std::string> name = field.string();
  if (!name.ok()) return name.status();
  const std::optional<SplitBehavior> behavior = parse_split_behavior(*name);
  if (!behavior) {
    return field.error(fmt::format(
        "is '{}'; it has to be Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous",
        *name));
  }
  return *behavior;
}

Status parse_split(const JsonField& field, Steps& steps) {
  Result<Pattern> pattern = parse_pattern(field["pattern"]);
  if (!pattern.ok()) return pattern.status();
  Result<SplitBehavior> behavior = parse_behavior(field["behavior"]);
  if (!behavior.ok()) return behavior.status();
  Result<bool> invert = field["invert"].boolean();
  if (!invert.ok()) return invert.status();
  steps.push_back(std::make_unique<SplitStep>(pattern.take(), *behavior, *invert));
  return {};
}

Status parse_byte_level(const JsonField& field, Steps& steps) {
  Result<bool> prefix_space = field["add_prefix_space"].boolean();
  if (!prefix_space.ok()) return prefix_space.status();
  Result<bool> use_regex = field["use_regex"].boolean_or(true);
  if (!use_regex.ok()) return use_regex.status();
  if (*prefix_space) steps.push_back(std::make_unique<PrefixSpace>());
  if (*use_regex) {
    Status status = add_split(kGpt2Pattern, SplitBehavior::kIsolated, false, steps);
    if (!status.ok()) return status;
  }
  steps.push_back(std::make_unique<ByteLevelAlphabet>());
  return {};
}

Status parse_metaspace(const JsonField& field, Steps& steps) {
  Result<std::string> replacement = field["replacement"].string();
  if (!replacement.ok()) return replacement.status();
  if (replacement->empty() || code_point_at(*replacement, 0).bytes != replacement->size()) {
    return field["replacement"].error("has to be one character");
  }
  Result<std::string> scheme = field["prepend_scheme"].has_value()
                                   ? field["prepend_scheme"].string()
                                   : Result<std::string>(std::string("always"));
  if (!scheme.ok()) return scheme.status();
  Result<bool> prefix_space = field["add_prefix_space"].boolean_or(true);
  if (!prefix_space.ok()) return prefix_space.status();
  Result<bool> split = field["split"].boolean_or(true);
  if (!split.ok()) return split.status();
  PrependScheme prepend = PrependScheme::kNever;
  if (*scheme == "first" || *scheme == "always") {
    if (!*prefix_space) {
      return field["add_prefix_space"].error("is false, but prepend_scheme is not 'never'");
    }
    prepend = *scheme == "first" ? PrependScheme::kFirst : PrependScheme::kAlways;
  } else if (*scheme != "never") {
    return field["prepend_scheme"].error(
        fmt::format("is '{}'; it has to be first, always or never", *scheme));
  }
  steps.push_back(std::make_unique<MetaspaceStep>(*replacement, prepend));
  if (*split) {
    Result<Pattern> pattern = Pattern::literal(*replacement);
    if (!pattern.ok()) return pattern.status();
    steps.push_back(std::make_unique<SplitStep>(pattern.take(), SplitBehavior::kMergedWithNext,
                                                /*invert=*/false));
  }
  return {};
}

Status parse_steps(const JsonField& field, Steps& steps) {
  Result<std::string> type = field["type"].string();
  if (!type.ok()) return type.status();
  if (*type == "Sequence") {
    const JsonField list = field["pretokenizers"];
    Result<const JsonArray*> items = list.array();
    if (!items.ok()) return items.status();
    for (size_t i = 0; i < (*items)->size(); ++i) {
      Status status = parse_steps(list[i], steps);
      if (!status.ok()) return status;
    }
    return {};
  }
  if (*type == "Split") return parse_split(field, steps);
  if (*type == "ByteLevel") return parse_byte_level(field, steps);
  if (*type == "Metaspace") return parse_metaspace(field, steps);
  if (*type == "Digits") {
    Result<bool> individual = field["individual_digits"].boolean();
    if (!individual.ok()) return individual.status();
    return add_split("\\p{N}", *individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous,
                     false, steps);
  }
  if (*type == "Punctuation") {
    Result<SplitBehavior> behavior = field["behavior"].has_value()
                                         ? parse_behavior(field["behavior"])
                                         : Result<SplitBehavior>(SplitBehavior::kIsolated);
    if (!behavior.ok()) return behavior.status();
    return add_split(kPunctuationPattern, *behavior, false, steps);
  }
  if (*type == "Whitespace") {
    return add_split(kWhitespacePattern, SplitBehavior::kRemoved, /*invert=*/true, steps);
  }
  if (*type == "WhitespaceSplit") {
    return add_split("\\s", SplitBehavior::kRemoved, /*invert=*/false, steps);
  }
  return unimplemented(fmt::format(
      "{}.type '{}' is not supported; Trireme reads ByteLevel, Split, Digits, Metaspace, "
      "Punctuation, Whitespace, WhitespaceSplit and Sequence",
      field.path(), *type));
}

}  // namespace

uint32_t origin_bytes_of(size_t origin_bytes, size_t begin, size_t end) {
  return static_cast<uint32_t>(std::clamp(origin_bytes, begin, end) - begin);
}

Result<PreTokenizer> PreTokenizer::parse(const JsonField& field) {
  PreTokenizer pre_tokenizer;
  if (!field.has_value()) return pre_tokenizer;
  Status status = parse_steps(field, pre_tokenizer.steps_);
  if (!status.ok()) return status;
  return pre_tokenizer;
}

Status PreTokenizer::apply(PieceList& list, Regex::Scratch& scratch) const {
  for (const auto& step : steps_) {
    Status status = step->apply(list, scratch);
    if (!status.ok()) return status;
  }
  return {};
}

}  // namespace trireme
