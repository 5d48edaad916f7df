// Byte-pair encoding over characters: the model of tokenizer.json, for byte-level vocabularies
// (whose characters are bytes in disguise, byte_level.h) and for SentencePiece's (byte fallback).
// Immutable; any thread, each with its own Scratch.
//
// A piece of n characters is encoded in O(n log n): while some pair of neighbours is a merge, the
// pair of the lowest rank, the leftmost of equals, becomes one. A short piece scans its pairs; a
// long one keeps them in a heap, over a linked list of symbols.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kernels/base/status.h"
#include "runtime/text/json_field.h"

namespace trireme {

// Ids and ranks are below this, so that a hostile file cannot make us allocate without bounds.
inline constexpr int64_t kTokenIdsMax = int64_t{1} << 24;

class BpeModel {
 public:
  static Result<BpeModel> parse(const JsonField& field);
  // The index of strings points into their store: a model moves, and is not copied.
  BpeModel(BpeModel&&) = default;
  BpeModel& operator=(BpeModel&&) = default;

  // What one encoding needs; not to be shared between threads. The pieces that it is used with must
  // stay where they are until it is cleared, and `ids` may only grow.
  class Scratch {
   public:
    // `text_bytes`: about how much text there will be.
    explicit Scratch(size_t text_bytes);

   private:
    friend class BpeModel;
    struct Symbol {
      int32_t id;  // -1: merged into its left neighbour
      int32_t previous;
      int32_t next;
    };
    struct Candidate {
      uint64_t order;  // rank, then position
      int32_t id;
    };
    struct Cached {
      std::string_view piece;
      size_t first_id = 0;
      size_t ids = 0;
    };
    std::vector<Symbol> symbols_;
    std::vector<Candidate> heap_;
    std::vector<uint32_t> ranks_;
    std::vector<int32_t> merged_;
    std::vector<Cached> cache_;  // by hash of the piece: where its ids were written before
  };

  // Appends the ids of `piece` to `ids`. Errors: a character without a token, where unk_token names
  // a token that does not exist.
  // REQUIRES: piece is well-formed UTF-8 and not empty.
  Status encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const;

  // The ids run from 0 to below this, with holes.
  int32_t ids_end() const { return static_cast<int32_t>(strings_.size()); }
  // How many strings there are.
  size_t size() const { return ids_.size(); }
  std::optional<int32_t> id_of(std::string_view token) const;
  // The token's string; nullptr where no token has this id.
  const std::string* string_of(int32_t id) const;

 private:
  struct Merge {
    uint64_t pair = UINT64_MAX;  // left << 32 | right; UINT64_MAX: none
    uint32_t rank = 0;
    int32_t id = 0;
  };
  static uint64_t pair_of(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  static uint64_t mix(uint64_t x) {
    x *= 0x9E3779B97F4A7C15u;
    return x ^ (x >> 32);
  }
  BpeModel() = default;
  Status parse_vocabulary(const JsonField& field);
  Status parse_merges(const JsonField& field);
  Status parse_options(const JsonField& field);
  Status add_merge(const JsonField& field, uint32_t rank, const std::string& left,
                   const std::string& right);
  void index_merges();
  const Merge* find_merge(int32_t left, int32_t right) const;
  Status add_symbols(std::string_view piece, Scratch& scratch) const;
  void add_symbol(int32_t id, Scratch& scratch) const;
  void merge_short(Scratch& scratch) const;
  void merge_long(Scratch& scratch) const;
  void push_candidate(size_t position, Scratch& scratch) const;
  int32_t id_of_character(std::string_view character) const;

  std::vector<std::string> strings_;  // by id; empty: no token
  std::unordered_map<std::string_view, int32_t> ids_;
  std::vector<int32_t> character_ids_;  // by code point below 0x10000, or -1
  std::vector<Merge> merges_;           // while loading: by rank; then: an open-addressing table
  int32_t byte_ids_[256];               // "<0x00>" and so on, or -1

  std::string unk_token_;
  bool has_unk_ = false;
  int32_t unk_id_ = -1;
  bool fuse_unk_ = false;
  bool byte_fallback_ = false;
  bool ignore_merges_ = false;
  std::string prefix_;  // continuing_subword_prefix
  std::string suffix_;  // end_of_word_suffix
};

}  // namespace trireme
