#include "runtime/text/normalizer.h"

#include <utility>

#include "runtime/text/byte_level.h"
#include "runtime/text/unicode.h"
#include "runtime/text/utf8.h"

namespace trireme {
namespace {

Status too_long() {
  return resource_exhausted(
      fmt::format("the text grows beyond {} bytes in the tokenizer", kTextBytesMax));
}

class ToNormalForm : public NormalizerStep {
 public:
  explicit ToNormalForm(NormalForm form) : form_(form) {}
  Status apply(NormalizedText& text, Regex::Scratch&) const override {
    text.text = normalize(text.text, form_);
    return {};
  }

 private:
  NormalForm form_;
};

class LowerCase : public NormalizerStep {
 public:
  Status apply(NormalizedText& text, Regex::Scratch&) const override {
    text.text = lower_case(text.text);
    return {};
  }
};

class StripAccents : public NormalizerStep {
 public:
  Status apply(NormalizedText& text, Regex::Scratch&) const override {
    std::string kept;
    for (size_t i = 0; i < text.text.size();) {
      const CodePoint point = code_point_at(text.text, i);
      if (!is_mark(point.value)) {
        kept.append(text.text, i, point.bytes);
      } else if (i == 0) {
        text.from_start = false;
      }
      i += point.bytes;
    }
    text.text = std::move(kept);
    return {};
  }
};

class Strip : public NormalizerStep {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  Status apply(NormalizedText& text, Regex::Scratch&) const override {
    size_t begin = 0;
    size_t end = text.text.size();
    while (left_ && begin < end) {
      const CodePoint point = code_point_at(text.text, begin);
      if (!is_white_space(point.value)) break;
      begin += point.bytes;
    }
    while (right_ && begin < end) {
      const CodePoint point = code_point_before(text.text, end);
      if (!is_white_space(point.value)) break;
      end -= point.bytes;
    }
    if (begin > 0) text.from_start = false;
    text.text = text.text.substr(begin, end - begin);
    return {};
  }

 private:
  bool left_;
  bool right_;
};

class Prepend : public NormalizerStep {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
  Status apply(NormalizedText& text, Regex::Scratch&) const override {
    if (text.text.size() + prefix_.size() > kTextBytesMax) return too_long();
    if (!text.text.empty()) text.text.insert(0, prefix_);
    return {};
  }

 private:
  std::string prefix_;
};

class Replace : public NormalizerStep {
 public:
  Replace(Pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  Status apply(NormalizedText& text, Regex::Scratch& scratch) const override {
    std::vector<Regex::Match> matches;
    Status found = pattern_.find_all(text.text, scratch, matches);
    if (!found.ok()) return found;
    if (matches.empty()) return {};
    if (text.text.size() + matches.size() * content_.size() > kTextBytesMax) return too_long();
    if (matches[0].begin == 0 && matches[0].end > 0) {
      // What replaces a match comes from its last character.
      const bool one_character = matches[0].end == code_point_at(text.text, 0).bytes;
      text.from_start = text.from_start && one_character && !content_.empty();
    }
    std::string out;
    size_t done = 0;
    for (const Regex::Match& match : matches) {
      out.append(text.text, done, match.begin - done).append(content_);
      done = match.end;
    }
    out.append(text.text, done);
    text.text = std::move(out);
    return {};
  }

 private:
  Pattern pattern_;
  std::string content_;
};

class ByteLevel : public NormalizerStep {
 public:
  Status apply(NormalizedText& text, Regex::Scratch&) const override {
    std::string mapped;
    append_byte_level(text.text, mapped);
    text.text = std::move(mapped);
    return {};
  }
};

using Steps = std::vector<std::unique_ptr<NormalizerStep>>;

Status parse_strip(const JsonField& field, Steps& steps) {
  Result<bool> left = field["strip_left"].boolean();
  if (!left.ok()) return left.status();
  Result<bool> right = field["strip_right"].boolean();
  if (!right.ok()) return right.status();
  steps.push_back(std::make_unique<Strip>(*left, *right));
  return {};
}

Status parse_replace(const JsonField& field, Steps& steps) {
  Result<Pattern> pattern = parse_pattern(field["pattern"]);
  if (!pattern.ok()) return pattern.status();
  Result<std::string> content = field["content"].string();
  if (!content.ok()) return content.status();
  steps.push_back(std::make_unique<Replace>(pattern.take(), content.take()));
  return {};
}

Status parse_steps(const JsonField& field, Steps& steps) {
  Result<std::string> type = field["type"].string();
  if (!type.ok()) return type.status();
  if (*type == "Sequence") {
    const JsonField list = field["normalizers"];
    Result<const JsonArray*> items = list.array();
    if (!items.ok()) return items.status();
    for (size_t i = 0; i < (*items)->size(); ++i) {
      Status status = parse_steps(list[i], steps);
      if (!status.ok()) return status;
    }
    return {};
  }
  constexpr std::pair<std::string_view, NormalForm> kForms[] = {{"NFC", NormalForm::kNfc},
                                                                {"NFD", NormalForm::kNfd},
                                                                {"NFKC", NormalForm::kNfkc},
                                                                {"NFKD", NormalForm::kNfkd}};
  for (const auto& [name, form] : kForms) {
    if (*type != name) continue;
    steps.push_back(std::make_unique<ToNormalForm>(form));
    return {};
  }
  if (*type == "Strip") return parse_strip(field, steps);
  if (*type == "Replace") return parse_replace(field, steps);
  if (*type == "Prepend") {
    Result<std::string> prefix = field["prepend"].string();
    if (!prefix.ok()) return prefix.status();
    steps.push_back(std::make_unique<Prepend>(prefix.take()));
  } else if (*type == "Lowercase") {
    steps.push_back(std::make_unique<LowerCase>());
  } else if (*type == "StripAccents") {
    steps.push_back(std::make_unique<StripAccents>());
  } else if (*type == "ByteLevel") {
    steps.push_back(std::make_unique<ByteLevel>());
  } else {
    return unimplemented(fmt::format(
        "{}.type '{}' is not supported; Trireme reads NFC, NFD, NFKC, NFKD, Lowercase, Prepend, "
        "Replace, Strip, StripAccents, ByteLevel and Sequence",
        field.path(), *type));
  }
  return {};
}

}  // namespace

Result<Normalizer> Normalizer::parse(const JsonField& field) {
  Normalizer normalizer;
  if (!field.has_value()) return normalizer;
  Status status = parse_steps(field, normalizer.steps_);
  if (!status.ok()) return status;
  return normalizer;
}

Status Normalizer::apply(NormalizedText& text, Regex::Scratch& scratch) const {
  for (const auto& step : steps_) {
    Status status = step->apply(text, scratch);
    if (!status.ok()) return status;
  }
  return {};
}

}  // namespace trireme
