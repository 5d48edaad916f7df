#include "runtime/text/bpe.h"

#include <algorithm>
#include <bit>

#include "runtime/text/normalizer.h"
#include "runtime/text/utf8.h"

namespace trireme {
namespace {

// Up to this many symbols, scanning all pairs for each merge beats the heap.
constexpr size_t kShortPieceSymbols = 48;
constexpr size_t kCachedPieceBytesMax = 256;
constexpr uint32_t kNoRank = UINT32_MAX;

}  // namespace

BpeModel::Scratch::Scratch(size_t text_bytes)
    : cache_(std::bit_ceil(std::clamp<size_t>(text_bytes / 16, 16, 8192))) {}

std::optional<int32_t> BpeModel::id_of(std::string_view token) const {
  const auto found = ids_.find(token);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

const std::string* BpeModel::string_of(int32_t id) const {
  if (id < 0 || id >= ids_end()) return nullptr;
  const std::string& token = strings_[static_cast<size_t>(id)];
  // An id without a token has the empty string; the empty string itself may be a token too.
  if (token.empty() && id_of("") != id) return nullptr;
  return &token;
}

int32_t BpeModel::id_of_character(std::string_view character) const {
  const char32_t value = code_point_at(character, 0).value;
  if (value < character_ids_.size()) return character_ids_[value];
  return id_of(character).value_or(-1);
}

const BpeModel::Merge* BpeModel::find_merge(int32_t left, int32_t right) const {
  const uint64_t pair = pair_of(left, right);
  const size_t mask = merges_.size() - 1;
  for (size_t slot = mix(pair) & mask;; slot = (slot + 1) & mask) {
    if (merges_[slot].pair == pair) return &merges_[slot];
    if (merges_[slot].pair == UINT64_MAX) return nullptr;
  }
}

Status BpeModel::encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const {
  if (ignore_merges_) {
    if (const auto whole = id_of(piece)) {
      ids.push_back(*whole);
      return {};
    }
  }
  Scratch::Cached* cached = nullptr;
  if (piece.size() <= kCachedPieceBytesMax) {
    const size_t hash = mix(std::hash<std::string_view>()(piece));
    cached = &scratch.cache_[hash & (scratch.cache_.size() - 1)];
    if (cached->piece == piece) {
      const size_t begin = ids.size();
      ids.resize(begin + cached->ids);
      std::copy_n(ids.begin() + static_cast<ptrdiff_t>(cached->first_id), cached->ids,
                  ids.begin() + static_cast<ptrdiff_t>(begin));
      return {};
    }
  }
  const size_t first_id = ids.size();
  scratch.symbols_.clear();
  Status added = add_symbols(piece, scratch);
  if (!added.ok()) return added;
  if (scratch.symbols_.size() <= kShortPieceSymbols) {
    merge_short(scratch);
  } else {
    merge_long(scratch);
  }
  for (const Scratch::Symbol& symbol : scratch.symbols_) {
    if (symbol.id >= 0) ids.push_back(symbol.id);
  }
  if (cached != nullptr) *cached = {piece, first_id, ids.size() - first_id};
  return {};
}

void BpeModel::add_symbol(int32_t id, Scratch& scratch) const {
  const int32_t at = static_cast<int32_t>(scratch.symbols_.size());
  scratch.symbols_.push_back({id, at - 1, at + 1});
}

// The characters of `piece` as tokens; for one that has no token: its bytes, if each has a token
// and byte_fallback is set, else unk_token, else nothing.
Status BpeModel::add_symbols(std::string_view piece, Scratch& scratch) const {
  const bool plain = prefix_.empty() && suffix_.empty();
  bool unk_waits = false;  // as HF does it: the bytes of a later character go before it
  std::string decorated;
  for (size_t i = 0; i < piece.size();) {
    const size_t bytes = code_point_at(piece, i).bytes;
    std::string_view character = piece.substr(i, bytes);
    if (!plain) {
      decorated = i > 0 ? prefix_ : "";
      decorated += character;
      if (i + bytes == piece.size()) decorated += suffix_;
      character = decorated;
    }
    i += bytes;
    if (scratch.symbols_.size() > kTextBytesMax) {
      return resource_exhausted(fmt::format("a text of more than {} symbols", kTextBytesMax));
    }
    const int32_t id = plain ? id_of_character(character) : id_of(character).value_or(-1);
    if (id >= 0) {
      if (unk_waits) add_symbol(unk_id_, scratch);
      unk_waits = false;
      add_symbol(id, scratch);
      continue;
    }
    const auto has_token = [&](char b) { return byte_ids_[static_cast<uint8_t>(b)] >= 0; };
    if (byte_fallback_ && std::all_of(character.begin(), character.end(), has_token)) {
      for (const char b : character) add_symbol(byte_ids_[static_cast<uint8_t>(b)], scratch);
      continue;
    }
    if (!has_unk_) continue;
    if (unk_id_ < 0) {
      return invalid_argument(fmt::format(
          "the text has '{}', for which the tokenizer has no token, and its unk_token '{}' is not "
          "in its vocabulary",
          character, unk_token_));
    }
    if (unk_waits && !fuse_unk_) add_symbol(unk_id_, scratch);
    unk_waits = true;
  }
  if (unk_waits) add_symbol(unk_id_, scratch);
  if (!scratch.symbols_.empty()) scratch.symbols_.back().next = -1;
  return {};
}

void BpeModel::merge_short(Scratch& scratch) const {
  std::vector<Scratch::Symbol>& symbols = scratch.symbols_;
  std::vector<uint32_t>& ranks = scratch.ranks_;  // of the pair (i, i + 1)
  std::vector<int32_t>& merged = scratch.merged_;
  size_t count = symbols.size();
  ranks.assign(count, kNoRank);
  merged.resize(count);
  const auto look_up = [&](size_t i) {
    const Merge* merge = i + 1 < count ? find_merge(symbols[i].id, symbols[i + 1].id) : nullptr;
    ranks[i] = merge != nullptr ? merge->rank : kNoRank;
    merged[i] = merge != nullptr ? merge->id : -1;
  };
  for (size_t i = 0; i + 1 < count; ++i) look_up(i);
  while (count > 1) {
    const size_t best = static_cast<size_t>(
        std::min_element(ranks.begin(), ranks.begin() + static_cast<ptrdiff_t>(count)) -
        ranks.begin());
    if (ranks[best] == kNoRank) break;
    symbols[best].id = merged[best];
    for (size_t i = best + 1; i + 1 < count; ++i) {
      symbols[i].id = symbols[i + 1].id;
      ranks[i] = ranks[i + 1];
      merged[i] = merged[i + 1];
    }
    --count;
    look_up(best);
    if (best > 0) look_up(best - 1);
  }
  symbols.resize(count);
}

void BpeModel::push_candidate(size_t position, Scratch& scratch) const {
  const Scratch::Symbol& left = scratch.symbols_[position];
  const Merge* merge = find_merge(left.id, scratch.symbols_[static_cast<size_t>(left.next)].id);
  if (merge == nullptr) return;
  scratch.heap_.push_back({uint64_t{merge->rank} << 32 | position, merge->id});
}

void BpeModel::merge_long(Scratch& scratch) const {
  std::vector<Scratch::Symbol>& symbols = scratch.symbols_;
  std::vector<Scratch::Candidate>& heap = scratch.heap_;
  const auto later = [](const Scratch::Candidate& a, const Scratch::Candidate& b) {
    return a.order > b.order;
  };
  heap.clear();
  for (size_t i = 0; i + 1 < symbols.size(); ++i) push_candidate(i, scratch);
  std::make_heap(heap.begin(), heap.end(), later);
  const auto push = [&](size_t position) {
    const size_t before = heap.size();
    push_candidate(position, scratch);
    if (heap.size() > before) std::push_heap(heap.begin(), heap.end(), later);
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const Scratch::Candidate top = heap.back();
    heap.pop_back();
    const size_t position = static_cast<size_t>(top.order & UINT32_MAX);
    Scratch::Symbol& left = symbols[position];
    if (left.id < 0 || left.next < 0) continue;
    Scratch::Symbol& right = symbols[static_cast<size_t>(left.next)];
    const Merge* merge = find_merge(left.id, right.id);
    if (merge == nullptr || merge->id != top.id) continue;  // one of the two has grown since
    left.id = top.id;
    right.id = -1;
    left.next = right.next;
    if (left.next >= 0) {
      symbols[static_cast<size_t>(left.next)].previous = static_cast<int32_t>(position);
      push(position);
    }
    if (left.previous >= 0) push(static_cast<size_t>(left.previous));
  }
}

}  // namespace trireme
