#include "runtime/text/tokenizer.h"

#include <algorithm>
#include <filesystem>

#include <fmt/format.h>

#include "kernels/base/json.h"
#include "runtime/text/token_stream.h"
#include "runtime/text/utf8.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;

constexpr size_t kFileBytesMax = size_t{256} << 20;

bool is_file(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

// The files rwkv_vocab*.txt in `folder`, in order of name.
std::vector<std::string> rwkv_vocabularies(const fs::path& folder) {
  std::vector<std::string> found;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.starts_with("rwkv_vocab") && name.ends_with(".txt") && is_file(entry->path())) {
      found.push_back(entry->path().string());
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace

Status Tokenizer::check_prompt(std::string_view utf8) {
  if (utf8.size() > kPromptBytesMax) {
    return invalid_argument(
        fmt::format("the text has {} bytes; the limit is {}", utf8.size(), kPromptBytesMax));
  }
  const std::optional<size_t> bad = utf8_error(utf8);
  if (bad) return invalid_argument(fmt::format("the text is not valid UTF-8 at byte {}", *bad));
  return {};
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  TokenStream stream(*this, skip_special, /*whole_runs=*/true);
  std::string text;
  for (const int32_t id : ids) stream.push_to(id, text);
  stream.finish_to(text);
  stream.strip_start_of(text);
  stream.hold_back_end_of(text);
  return text;
}

Result<std::unique_ptr<Tokenizer>> load_tokenizer_json(const std::string& path) {
  Result<std::string> text = read_file(path, kFileBytesMax);
  if (!text.ok()) return text.status();
  Result<std::unique_ptr<Tokenizer>> tokenizer = parse_tokenizer_json(*text);
  if (!tokenizer.ok()) return tokenizer.status().at(path);
  return tokenizer;
}

Result<std::unique_ptr<Tokenizer>> load_rwkv_vocab(const std::string& path) {
  Result<std::string> text = read_file(path, kFileBytesMax);
  if (!text.ok()) return text.status();
  Result<std::unique_ptr<Tokenizer>> tokenizer = parse_rwkv_vocab(*text);
  if (!tokenizer.ok()) return tokenizer.status().at(path);
  return tokenizer;
}

Result<std::unique_ptr<Tokenizer>> load_tokenizer(const std::string& model_path) {
  std::error_code error;
  fs::path folder = model_path;
  if (!fs::exists(folder, error)) return not_found(fmt::format("{}: does not exist", model_path));
  if (!fs::is_directory(folder, error)) folder = folder.parent_path();
  if (folder.empty()) folder = ".";
  for (const char* name : {"tokenizer.json", "20B_tokenizer.json"}) {
    if (is_file(folder / name)) return load_tokenizer_json((folder / name).string());
  }
  const std::vector<std::string> vocabularies = rwkv_vocabularies(folder);
  if (vocabularies.size() > 1) {
    return invalid_argument(fmt::format("{}: has {} files rwkv_vocab*.txt; leave the right one",
                                        folder.string(), vocabularies.size()));
  }
  if (vocabularies.empty()) {
    return not_found(fmt::format(
        "{}: has no tokenizer.json, 20B_tokenizer.json or rwkv_vocab*.txt; copy the model's "
        "tokenizer there",
        folder.string()));
  }
  return load_rwkv_vocab(vocabularies[0]);
}

}  // namespace trireme
