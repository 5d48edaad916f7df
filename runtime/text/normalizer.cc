#include "runtime/text/normalizer.h"

#include <algorithm>
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
    text.origin_bytes = normalize(text.text.substr(0, text.origin_bytes), form_).size();
    text.text = normalize(text.text, form_);
    text.origin_bytes = std::min(text.origin_bytes, text.text.size());
    return {};
  }

 private:
  NormalForm form_;
};

class LowerCase : public NormalizerStep {
 public:
  Status apply(NormalizedText& text, Regex::Scratch&) const override {
    text.origin_bytes = lower_case(text.text.substr(0, text.origin_bytes)).size();
    text.text = lower_case(text.text);
    return {};
  }
};

class StripAccents : public NormalizerStep {
 public:
  Status apply(NormalizedText& text, Regex::Scratch&) const override {
    std::string kept;
    size_t origin_bytes = 0;
    for (size_t i = 0; i < text.text.size();) {
      const CodePoint point = code_point_at(text.text, i);
      if (!is_mark(point.value)) kept.append(text.text, i, point.bytes);
      i += point.bytes;
      if (i <= text.origin_bytes) origin_bytes = kept.size();
    }
    text.text = std::move(kept);
    text.origin_bytes = origin_bytes;
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
    text.text = text.text.substr(begin, end - begin);
    text.origin_bytes =
        std::min(text.origin_bytes - std::min(begin, text.origin_bytes), end - begin);
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
    if (text.text.empty()) return {};
    text.text.insert(0, prefix_);
    if (text.origin_bytes > 0) text.origin_bytes += prefix_.size();
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
    std::string out;
    size_t done = 0;
    size_t origin_bytes = 0;  // of `out`, as long as `at_origin`
    bool at_origin = true;
    const auto keep = [&](size_t begin, size_t end) {
      out.append(text.text, begin, end - begin);
      const size_t from_origin = std::max(std::min(end, text.origin_bytes), begin) - begin;
      if (at_origin) origin_bytes += from_origin;
      at_origin = at_origin && from_origin == end - begin;
    };
    for (const Regex::Match& match : matches) {
      keep(done, match.begin);
      out.append(content_);
      // What replaces a match comes from where its last character does.
      const bool from_origin = match.end == 0 ? text.at_origin : match.end <= text.origin_bytes;
      if (at_origin && from_origin) origin_bytes += content_.size();
      at_origin = at_origin && (from_origin || content_.empty());
      done = match.end;
    }
    keep(done, text.text.size());
    text.origin_bytes = origin_bytes;
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
    append_byte_level(std::string_view(text.text).substr(0, text.origin_bytes), mapped);
    const size_t origin_bytes = mapped.size();
    append_byte_level(std::string_view(text.text).substr(text.origin_bytes), mapped);
    text.origin_bytes = origin_bytes;
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

NormalizedText unnormalized(std::string_view text, bool at_origin) {
  const size_t origin_bytes = at_origin && !text.empty() ? code_point_at(text, 0).bytes : 0;
  return {std::string(text), origin_bytes, at_origin};
}

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
