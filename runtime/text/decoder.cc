#include "runtime/text/decoder.h"

#include <optional>
#include <utility>

#include "runtime/text/byte_level.h"
#include "runtime/text/utf8.h"

namespace trireme {
namespace {

class ReplaceInToken : public DecoderStep {
 public:
  ReplaceInToken(Pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  Status apply(std::string& token, bool, Regex::Scratch& scratch) const override {
    std::vector<Regex::Match> matches;
    Status found = pattern_.find_all(token, scratch, matches);
    if (!found.ok() || matches.empty()) return found;
    std::string out;
    size_t done = 0;
    for (const Regex::Match& match : matches) {
      out.append(token, done, match.begin - done).append(content_);
      done = match.end;
    }
    token = out.append(token, done);
    return {};
  }

 private:
  Pattern pattern_;
  std::string content_;
};

// The replacement character becomes a space; in the first token it goes, where one was put there.
class MetaspaceInToken : public DecoderStep {
 public:
  MetaspaceInToken(std::string replacement, bool prepended)
      : replacement_(std::move(replacement)), prepended_(prepended) {}
  Status apply(std::string& token, bool first, Regex::Scratch&) const override {
    std::string out;
    for (size_t i = 0; i < token.size();) {
      if (std::string_view(token).substr(i).starts_with(replacement_)) {
        if (!(first && prepended_)) out.push_back(' ');
        i += replacement_.size();
      } else {
        out.push_back(token[i++]);
      }
    }
    token = std::move(out);
    return {};
  }

 private:
  std::string replacement_;
  bool prepended_;
};

class StripToken : public DecoderStep {
 public:
  StripToken(std::string content, size_t start, size_t stop)
      : content_(std::move(content)), start_(start), stop_(stop) {}
  Status apply(std::string& token, bool, Regex::Scratch&) const override {
    std::string_view left = token;
    for (size_t i = 0; i < start_ && left.starts_with(content_); ++i) {
      left.remove_prefix(content_.size());
    }
    for (size_t i = 0; i < stop_ && left.ends_with(content_); ++i) {
      left.remove_suffix(content_.size());
    }
    token = std::string(left);
    return {};
  }

 private:
  std::string content_;
  size_t start_;
  size_t stop_;
};

// "<0x41>" is the byte 0x41. As Rust's from_str_radix, which takes "+F" for 15 too.
std::optional<char> fallback_byte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  int value = 0;
  for (size_t i = token[3] == '+' ? 4 : 3; i < 5; ++i) {
    const char c = token[i];
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) return std::nullopt;
    value = value * 16 + digit;
  }
  return static_cast<char>(value);
}

Result<std::string> one_character(const JsonField& field) {
  Result<std::string> text = field.string();
  if (!text.ok()) return text;
  if (text->empty() || code_point_at(*text, 0).bytes != text->size()) {
    return field.error("has to be one character");
  }
  return text;
}

}  // namespace

Result<Decoder> Decoder::parse(const JsonField& field) {
  Decoder decoder;
  if (!field.has_value()) {
    decoder.rules_.spaces_between = true;
    return decoder;
  }
  Stage stage = Stage::kTokens;
  Status status = decoder.parse_step(field, stage);
  if (!status.ok()) return status;
  decoder.rules_.byte_runs = decoder.joint_ == Joint::kByteFallback;
  return decoder;
}

Status Decoder::parse_step(const JsonField& field, Stage& stage) {
  Result<std::string> type = field["type"].string();
  if (!type.ok()) return type.status();
  if (*type == "Sequence") {
    const JsonField list = field["decoders"];
    Result<const JsonArray*> items = list.array();
    if (!items.ok()) return items.status();
    for (size_t i = 0; i < (*items)->size(); ++i) {
      Status status = parse_step(list[i], stage);
      if (!status.ok()) return status;
    }
    return {};
  }
  if (*type == "Fuse") {
    if (stage < Stage::kWhole) stage = Stage::kWhole;
    return {};
  }
  if (*type == "Strip") return parse_strip(field, stage);
  const bool known =
      *type == "Replace" || *type == "Metaspace" || *type == "ByteLevel" || *type == "ByteFallback";
  if (!known) {
    return unimplemented(fmt::format(
        "{}.type '{}' is not supported; Trireme reads ByteLevel, ByteFallback, Fuse, Metaspace, "
        "Replace, Strip and Sequence",
        field.path(), *type));
  }
  if (stage != Stage::kTokens) {
    return unimplemented(fmt::format(
        "{} ('{}') comes after ByteLevel, ByteFallback or Fuse, where only Fuse and one Strip are "
        "supported",
        field.path(), *type));
  }
  if (*type == "Replace") return parse_replace(field);
  if (*type == "Metaspace") return parse_metaspace(field);
  joint_ = *type == "ByteLevel" ? Joint::kByteLevel : Joint::kByteFallback;
  stage = joint_ == Joint::kByteLevel ? Stage::kWhole : Stage::kJoined;
  return {};
}

Status Decoder::parse_strip(const JsonField& field, Stage& stage) {
  Result<std::string> content = one_character(field["content"]);
  if (!content.ok()) return content.status();
  constexpr int64_t kStripMax = 1024;
  Result<int64_t> start = field["start"].integer(kStripMax);
  if (!start.ok()) return start.status();
  Result<int64_t> stop = field["stop"].integer(kStripMax);
  if (!stop.ok()) return stop.status();
  if (stage == Stage::kTokens) {
    steps_.push_back(std::make_unique<StripToken>(content.take(), static_cast<size_t>(*start),
                                                  static_cast<size_t>(*stop)));
    return {};
  }
  if (stage != Stage::kWhole) {
    return unimplemented(fmt::format(
        "{} ('Strip') has to come before ByteFallback, or once after Fuse", field.path()));
  }
  stage = Stage::kStripped;
  rules_.strip = content.take();
  rules_.strip_start = static_cast<size_t>(*start);
  rules_.strip_end = static_cast<size_t>(*stop);
  return {};
}

Status Decoder::parse_replace(const JsonField& field) {
  Result<Pattern> pattern = parse_pattern(field["pattern"]);
  if (!pattern.ok()) return pattern.status();
  Result<std::string> content = field["content"].string();
  if (!content.ok()) return content.status();
  steps_.push_back(std::make_unique<ReplaceInToken>(pattern.take(), content.take()));
  return {};
}

Status Decoder::parse_metaspace(const JsonField& field) {
  Result<std::string> replacement = one_character(field["replacement"]);
  if (!replacement.ok()) return replacement.status();
  const JsonField scheme = field["prepend_scheme"];
  bool prepended = true;
  if (scheme.has_value()) {
    Result<std::string> name = scheme.string();
    if (!name.ok()) return name.status();
    if (*name != "first" && *name != "always" && *name != "never") {
      return scheme.error(fmt::format("is '{}'; it has to be first, always or never", *name));
    }
    prepended = *name != "never";
  }
  Result<bool> prefix_space = field["add_prefix_space"].boolean_or(true);
  if (!prefix_space.ok()) return prefix_space.status();
  if (!*prefix_space && prepended) {
    return field["add_prefix_space"].error("is false, but prepend_scheme is not 'never'");
  }
  steps_.push_back(std::make_unique<MetaspaceInToken>(replacement.take(), prepended));
  first_differs_ = first_differs_ || prepended;
  return {};
}

Result<Decoder::Text> Decoder::text_of(std::string_view token, bool first,
                                       Regex::Scratch& scratch) const {
  Text text{std::string(token), false};
  for (const auto& step : steps_) {
    Status status = step->apply(text.bytes, first, scratch);
    if (!status.ok()) return status;
  }
  if (joint_ == Joint::kByteLevel) {
    if (auto bytes = bytes_of_byte_level(text.bytes)) text.bytes = std::move(*bytes);
  } else if (joint_ == Joint::kByteFallback) {
    if (const auto byte = fallback_byte(text.bytes)) text = {std::string(1, *byte), true};
  }
  return text;
}

}  // namespace trireme
