// BpeModel::parse: the "model" of tokenizer.json.
#include <algorithm>
#include <bit>

#include "runtime/text/bpe.h"
#include "runtime/text/utf8.h"

namespace trireme {
namespace {

constexpr size_t kCharacterTable = 0x10000;

}  // namespace

Result<BpeModel> BpeModel::parse(const JsonField& field) {
  // Files of before 2020 have no model.type; they have merges.
  if (field["type"].has_value()) {
    Result<std::string> type = field["type"].string();
    if (!type.ok()) return type.status();
    if (*type != "BPE") {
      return unimplemented(
          fmt::format("{} '{}' is not supported; Trireme reads BPE", field["type"].path(), *type));
    }
  }
  BpeModel model;
  Status status = model.parse_options(field);
  if (status.ok()) status = model.parse_vocabulary(field["vocab"]);
  if (status.ok()) status = model.parse_merges(field["merges"]);
  if (!status.ok()) return status;
  if (model.has_unk_) model.unk_id_ = model.id_of(model.unk_token_).value_or(-1);
  return model;
}

Status BpeModel::parse_options(const JsonField& field) {
  const JsonField dropout = field["dropout"];
  if (dropout.has_value() &&
      !(dropout.value().is_number() && dropout.value().to_number<double>() == 0.0)) {
    return dropout.error("is set; an encoding that is not the same each time is not supported");
  }
  const std::pair<std::string_view, bool*> flags[] = {{"fuse_unk", &fuse_unk_},
                                                      {"byte_fallback", &byte_fallback_},
                                                      {"ignore_merges", &ignore_merges_}};
  for (const auto& [name, flag] : flags) {
    Result<bool> value = field[name].boolean_or(false);
    if (!value.ok()) return value.status();
    *flag = *value;
  }
  const std::pair<std::string_view, std::string*> strings[] = {
      {"unk_token", &unk_token_},
      {"continuing_subword_prefix", &prefix_},
      {"end_of_word_suffix", &suffix_}};
  for (const auto& [name, string] : strings) {
    if (!field[name].has_value()) continue;
    Result<std::string> value = field[name].string();
    if (!value.ok()) return value.status();
    *string = value.take();
  }
  has_unk_ = field["unk_token"].has_value();
  return {};
}

Status BpeModel::parse_vocabulary(const JsonField& field) {
  Result<const JsonObject*> entries = field.object();
  if (!entries.ok()) return entries.status();
  int64_t ids_end = 0;
  for (const auto& [token, value] : **entries) {
    const JsonField entry(&value, fmt::format("{}['{}']", field.path(), std::string_view(token)));
    Result<int64_t> id = entry.integer(kTokenIdsMax - 1);
    if (!id.ok()) return id.status();
    ids_end = std::max(ids_end, *id + 1);
  }
  strings_.resize(static_cast<size_t>(ids_end));
  std::vector<bool> used(strings_.size());
  ids_.reserve((*entries)->size());
  for (const auto& [token, value] : **entries) {
    const size_t id = static_cast<size_t>(value.get_int64());
    if (used[id]) {
      return field.error(fmt::format("gives the id {} to '{}' and to '{}'", id, strings_[id],
                                     std::string_view(token)));
    }
    used[id] = true;
    strings_[id] = std::string_view(token);
    ids_.emplace(strings_[id], static_cast<int32_t>(id));
  }
  // Long vocabularies of short strings: looking up one character is an array access.
  character_ids_.assign(kCharacterTable, -1);
  for (const auto& [token, id] : ids_) {
    if (token.empty()) continue;
    const CodePoint first = code_point_at(token, 0);
    if (first.bytes == token.size() && first.value < kCharacterTable) {
      character_ids_[first.value] = id;
    }
  }
  for (size_t byte = 0; byte < 256; ++byte) {
    byte_ids_[byte] = id_of(fmt::format("<0x{:02X}>", byte)).value_or(-1);
  }
  return {};
}

// Each merge as "left right" or ["left", "right"]; its rank is its place in the list.
Status BpeModel::parse_merges(const JsonField& field) {
  Result<const JsonArray*> list = field.array();
  if (!list.ok()) return list.status();
  if ((*list)->size() >= static_cast<size_t>(kTokenIdsMax)) {
    return field.error(fmt::format("has more than {} merges", kTokenIdsMax));
  }
  const bool pairs = !(*list)->empty() && (*list)->front().is_array();
  merges_.reserve((*list)->size());
  uint32_t rank = 0;
  for (size_t i = 0; i < (*list)->size(); ++i) {
    const Json& item = (**list)[i];
    const JsonField entry(&item, fmt::format("{}[{}]", field.path(), i));
    Status status;
    if (pairs) {
      if (!item.is_array() || item.get_array().size() != 2 || !item.get_array()[0].is_string() ||
          !item.get_array()[1].is_string()) {
        return entry.wrong_kind("an array of two strings, as the first merge is");
      }
      status = add_merge(entry, rank++, std::string(item.get_array()[0].get_string()),
                         std::string(item.get_array()[1].get_string()));
    } else {
      Result<std::string> line = entry.string();
      if (!line.ok()) return line.status();
      if (line->starts_with("#version")) continue;
      const size_t space = line->find(' ');
      if (space == std::string::npos || line->find(' ', space + 1) != std::string::npos) {
        return entry.error(
            fmt::format("is '{}'; it has to be two strings with a space between", *line));
      }
      status = add_merge(entry, rank++, line->substr(0, space), line->substr(space + 1));
    }
    if (!status.ok()) return status;
  }
  index_merges();
  return {};
}

Status BpeModel::add_merge(const JsonField& field, uint32_t rank, const std::string& left,
                           const std::string& right) {
  if (right.size() <= prefix_.size() || left.empty()) {
    return field.error(fmt::format("joins '{}' and '{}', of which one is empty", left, right));
  }
  const std::string joined = left + right.substr(prefix_.size());
  int32_t ids[3] = {};
  const std::string* tokens[3] = {&left, &right, &joined};
  for (size_t i = 0; i < 3; ++i) {
    const std::optional<int32_t> id = id_of(*tokens[i]);
    if (!id)
      return field.error(fmt::format("needs '{}', which is not in the vocabulary", *tokens[i]));
    ids[i] = *id;
  }
  merges_.push_back({pair_of(ids[0], ids[1]), rank, ids[2]});
  return {};
}

// A pair that is listed twice has the rank of its last place.
void BpeModel::index_merges() {
  std::vector<Merge> list;
  list.swap(merges_);
  merges_.resize(std::bit_ceil(2 * list.size() + 2));
  const size_t mask = merges_.size() - 1;
  for (const Merge& merge : list) {
    size_t slot = mix(merge.pair) & mask;
    while (merges_[slot].pair != UINT64_MAX && merges_[slot].pair != merge.pair) {
      slot = (slot + 1) & mask;
    }
    merges_[slot] = merge;
  }
}

}  // namespace trireme
