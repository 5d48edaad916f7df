// The Tokenizer of a tokenizer.json: its parts, put together.
#include <algorithm>
#include <utility>

#include "kernels/base/json.h"
#include "runtime/text/added_tokens.h"
#include "runtime/text/bpe.h"
#include "runtime/text/decoder.h"
#include "runtime/text/normalizer.h"
#include "runtime/text/pre_tokenizer.h"
#include "runtime/text/template.h"
#include "runtime/text/tokenizer.h"

namespace trireme {
namespace {

// All texts of a vocabulary together, so that a hostile decoder cannot make them grow without end.
constexpr size_t kTextsBytesMax = size_t{1} << 30;

class HfTokenizer : public Tokenizer {
 public:
  static Result<std::unique_ptr<Tokenizer>> parse(const Json& json);

  Result<std::vector<int32_t>> encode(std::string_view utf8,
                                      const EncodeOptions& options) const override;
  int32_t vocab_size() const override { return static_cast<int32_t>(texts_.size()); }
  std::optional<int32_t> token_id(std::string_view content) const override {
    const std::optional<int32_t> id = added_.id_of(content);
    return id ? id : model_.id_of(content);
  }
  TokenText token_text(int32_t id, bool first) const override;
  const TextRules& text_rules() const override { return decoder_.rules(); }

 private:
  struct Text {
    std::string bytes;
    bool exists = false;
    bool special = false;
    bool fallback_byte = false;
  };

  HfTokenizer(Normalizer normalizer, PreTokenizer pre_tokenizer, BpeModel model, AddedTokens added,
              Template post_processor, Decoder decoder)
      : normalizer_(std::move(normalizer)),
        pre_tokenizer_(std::move(pre_tokenizer)),
        model_(std::move(model)),
        added_(std::move(added)),
        template_(std::move(post_processor)),
        decoder_(std::move(decoder)) {}
  Status build_texts();
  Status add_stretch(std::string_view text, bool at_origin, bool parse_special,
                     Regex::Scratch& scratch, PieceList& list) const;

  Normalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  BpeModel model_;
  AddedTokens added_;
  Template template_;
  Decoder decoder_;
  std::vector<Text> texts_;               // by id
  std::vector<std::string> first_texts_;  // by id; empty where being first makes no difference
};

Result<std::unique_ptr<Tokenizer>> HfTokenizer::parse(const Json& json) {
  if (!json.is_object()) return invalid_argument("a tokenizer.json is one JSON object");
  const JsonField root(&json, "");
  if (root["version"].has_value()) {
    Result<std::string> version = root["version"].string();
    if (!version.ok()) return version.status();
    if (*version != "1.0") {
      return unimplemented(
          fmt::format("version '{}' is not supported; Trireme reads 1.0", *version));
    }
  }
  Result<BpeModel> model = BpeModel::parse(root["model"]);
  if (!model.ok()) return model.status();
  Result<Normalizer> normalizer = Normalizer::parse(root["normalizer"]);
  if (!normalizer.ok()) return normalizer.status();
  Result<PreTokenizer> pre_tokenizer = PreTokenizer::parse(root["pre_tokenizer"]);
  if (!pre_tokenizer.ok()) return pre_tokenizer.status();
  Result<AddedTokens> added = AddedTokens::parse(root["added_tokens"], *model, *normalizer);
  if (!added.ok()) return added.status();
  const int32_t ids_end = std::max(model->ids_end(), added->ids_end());
  Result<Template> post_processor = Template::parse(root["post_processor"], ids_end);
  if (!post_processor.ok()) return post_processor.status();
  Result<Decoder> decoder = Decoder::parse(root["decoder"]);
  if (!decoder.ok()) return decoder.status();
  std::unique_ptr<HfTokenizer> tokenizer(new HfTokenizer(normalizer.take(), pre_tokenizer.take(),
                                                         model.take(), added.take(),
                                                         post_processor.take(), decoder.take()));
  tokenizer->texts_.resize(static_cast<size_t>(ids_end));
  Status status = tokenizer->build_texts();
  if (!status.ok()) return status.at("decoder");
  return std::unique_ptr<Tokenizer>(std::move(tokenizer));
}

Status HfTokenizer::build_texts() {
  Regex::Scratch scratch;
  size_t bytes = 0;
  if (decoder_.first_differs()) first_texts_.resize(texts_.size());
  for (size_t i = 0; i < texts_.size(); ++i) {
    const int32_t id = static_cast<int32_t>(i);
    const std::string* token = added_.string_of(id);
    if (token == nullptr) token = model_.string_of(id);
    if (token == nullptr) continue;
    Result<Decoder::Text> text = decoder_.text_of(*token, false, scratch);
    if (!text.ok()) return text.status();
    if (decoder_.first_differs()) {
      Result<Decoder::Text> first = decoder_.text_of(*token, true, scratch);
      if (!first.ok()) return first.status();
      first_texts_[i] = std::move(first->bytes);
      bytes += first_texts_[i].size();
    }
    bytes += text->bytes.size();
    if (bytes > kTextsBytesMax) {
      return resource_exhausted(fmt::format("makes tokens of more than {} bytes", kTextsBytesMax));
    }
    texts_[i] = {std::move(text->bytes), true, added_.is_special(id), text->fallback_byte};
  }
  return {};
}

TokenText HfTokenizer::token_text(int32_t id, bool first) const {
  if (id < 0 || static_cast<size_t>(id) >= texts_.size()) return {};
  const Text& text = texts_[static_cast<size_t>(id)];
  const bool other = first && !first_texts_.empty() && !text.fallback_byte;
  return {other ? first_texts_[static_cast<size_t>(id)] : text.bytes, text.exists, text.special,
          text.fallback_byte};
}

// Normalizes a stretch between raw added tokens and appends its pieces.
Status HfTokenizer::add_stretch(std::string_view text, bool at_origin, bool parse_special,
                                Regex::Scratch& scratch, PieceList& list) const {
  NormalizedText normalized = unnormalized(text, at_origin);
  Status status = normalizer_.apply(normalized, scratch);
  if (!status.ok()) return status;
  const size_t base = list.text.size();
  if (base + normalized.text.size() > kTextBytesMax) {
    return resource_exhausted(
        fmt::format("the text grows beyond {} bytes in the tokenizer", kTextBytesMax));
  }
  list.text.append(normalized.text);
  std::vector<AddedTokens::Stretch> stretches;
  status = added_.find_normalized(normalized.text, parse_special, scratch, stretches);
  if (!status.ok()) return status;
  for (const AddedTokens::Stretch& stretch : stretches) {
    list.pieces.push_back({static_cast<uint32_t>(base + stretch.begin),
                           static_cast<uint32_t>(base + stretch.end), stretch.token,
                           origin_bytes_of(normalized.origin_bytes, stretch.begin, stretch.end)});
  }
  return {};
}

Result<std::vector<int32_t>> HfTokenizer::encode(std::string_view utf8,
                                                 const EncodeOptions& options) const {
  Status good = check_prompt(utf8);
  if (!good.ok()) return good;
  Regex::Scratch regex_scratch;
  std::vector<AddedTokens::Stretch> stretches;
  Status status =
      added_.find_raw(utf8, options.parse_special, options.untrusted, regex_scratch, stretches);
  if (!status.ok()) return status;
  PieceList list;
  for (const AddedTokens::Stretch& stretch : stretches) {
    if (stretch.token >= 0) {
      list.pieces.push_back({0, 0, stretch.token, 0});
      continue;
    }
    // Normalizing moves bytes about: a stretch that has untrusted ones names no special token.
    const bool trusted = std::none_of(
        options.untrusted.begin(), options.untrusted.end(),
        [&](const TextRange& r) { return r.begin < stretch.end && r.end > stretch.begin; });
    status = add_stretch(utf8.substr(stretch.begin, stretch.end - stretch.begin),
                         stretch.begin == 0, options.parse_special && trusted, regex_scratch, list);
    if (!status.ok()) return status;
  }
  status = pre_tokenizer_.apply(list, regex_scratch);
  if (!status.ok()) return status;

  std::vector<int32_t> ids;
  ids.reserve(list.text.size() / 3 + 16);
  if (options.add_special) template_.append_before(ids);
  BpeModel::Scratch scratch(list.text.size());
  for (const PieceList::Piece& piece : list.pieces) {
    if (piece.token >= 0) {
      ids.push_back(piece.token);
    } else {
      status = model_.encode(list.view(piece), scratch, ids);
      if (!status.ok()) return status;
    }
  }
  if (options.add_special) template_.append_after(ids);
  return ids;
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> parse_tokenizer_json(std::string_view json) {
  Result<Json> parsed = parse_json(json);
  if (!parsed.ok()) return parsed.status();
  return HfTokenizer::parse(*parsed);
}

}  // namespace trireme
