#include "runtime/grammar/vocabulary_trie.h"

#include <algorithm>
#include <bitset>

#include "runtime/text/utf8.h"

namespace trireme::grammar {

VocabularyTrie::VocabularyTrie(const Tokenizer& tokenizer, int32_t vocab)
    : bytes_(static_cast<size_t>(std::min(vocab, tokenizer.vocab_size()))) {
  std::vector<int32_t> order;
  for (int32_t id = 0; id < static_cast<int32_t>(bytes_.size()); ++id) {
    const TokenText text = tokenizer.token_text(id, /*first=*/false);
    if (!text.exists || text.special || text.bytes.empty()) continue;
    bytes_[static_cast<size_t>(id)] = std::string(text.bytes);
    order.push_back(id);
  }
  find_alphabet(order);
  const auto unsigned_less = [](const std::string& a, const std::string& b) {
    return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
      return static_cast<uint8_t>(x) < static_cast<uint8_t>(y);
    });
  };
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    const std::string& x = bytes_[static_cast<size_t>(a)];
    const std::string& y = bytes_[static_cast<size_t>(b)];
    return x == y ? a < b : unsigned_less(x, y);
  });
  nodes_.emplace_back();
  std::vector<uint32_t> path = {0};  // of nodes that are open
  std::string current;
  for (const int32_t id : order) {
    const std::string& bytes = bytes_[static_cast<size_t>(id)];
    size_t common = 0;
    while (common < current.size() && common < bytes.size() && current[common] == bytes[common])
      ++common;
    while (path.size() > common + 1) {
      nodes_[path.back()].end = static_cast<uint32_t>(nodes_.size());
      path.pop_back();
    }
    for (size_t i = common; i < bytes.size(); ++i) {
      path.push_back(static_cast<uint32_t>(nodes_.size()));
      nodes_.push_back({static_cast<uint8_t>(bytes[i]), 0, 0, 0});
    }
    current = bytes;
    Node& node = nodes_[path.back()];
    if (node.tokens++ == 0) node.first_token = static_cast<uint32_t>(ids_.size());
    ids_.push_back(id);
  }
  for (const uint32_t open : path) nodes_[open].end = static_cast<uint32_t>(nodes_.size());
}

void VocabularyTrie::find_alphabet(std::vector<int32_t>& tokens) {
  std::bitset<256> bytes;
  std::vector<char32_t> characters;
  for (const int32_t id : tokens) {
    const std::string& text = bytes_[static_cast<size_t>(id)];
    if (text.size() == 1) bytes.set(static_cast<uint8_t>(text[0]));
    if (utf8_error(text)) continue;
    if (const CodePoint c = code_point_at(text, 0); c.bytes == text.size())
      characters.push_back(c.value);
  }
  bool all = true;  // that UTF-8 has
  for (size_t b = 0; b < 256; ++b)
    all = all && (bytes.test(b) || b == 0 || b == 0xC0 || b == 0xC1 || b > 0xF4);
  if (all && bytes.test(0)) return;
  if (all) {
    alphabet_ = {{1, 0x10FFFF}};
    return;
  }
  std::sort(characters.begin(), characters.end());
  for (const char32_t c : characters) {
    if (!alphabet_.empty() && c <= alphabet_.back().last + 1) {
      alphabet_.back().last = c;
    } else {
      alphabet_.push_back({c, c});
    }
  }
  if (alphabet_.empty()) alphabet_ = {{0, 0}};
  std::erase_if(tokens, [&](int32_t id) {
    std::string& text = bytes_[static_cast<size_t>(id)];
    if (!utf8_error(text)) return false;
    text.clear();
    return true;
  });
}

std::string_view VocabularyTrie::bytes(int32_t id) const {
  return id >= 0 && static_cast<size_t>(id) < bytes_.size()
             ? std::string_view(bytes_[static_cast<size_t>(id)])
             : std::string_view();
}

}  // namespace trireme::grammar
