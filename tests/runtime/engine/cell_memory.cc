#include "tests/runtime/engine/cell_memory.h"

#include <algorithm>

#include <fmt/format.h>

namespace trireme::test {
namespace {

constexpr uint64_t kPoison = 0xDEADDEADDEADDEAD;

bool is_fixed(const SlotClass& c) { return c.growth == StateSpec::Growth::kFixed; }

}  // namespace

CellMemory::CellMemory(const CacheLayout& layout, std::span<const uint32_t> blocks_total)
    : layout_(layout) {
  for (size_t c = 0; c < blocks_total.size(); ++c)
    cells_.emplace_back(size_t{blocks_total[c]} * layout.classes[c].block_tokens, kPoison);
}

std::span<uint64_t> CellMemory::block(size_t slot_class, BlockId id) {
  const uint32_t rows = layout_.classes[slot_class].block_tokens;
  return std::span(cells_[slot_class]).subspan(static_cast<size_t>(id) * rows, rows);
}

CellMemory::Run CellMemory::write_down(const SequenceTable::Sequence& s,
                                       const StepPlan::Run& run) const {
  Run written{run.seq, run.first, {}, {}};
  for (size_t c = 0; c < layout_.classes.size(); ++c) written.tables.push_back(s.blocks.table(c));
  uint64_t cell = mix_digest(1, std::hash<std::string>{}(s.cache_salt));
  for (uint32_t p = 0; p < run.first + run.count; ++p) {
    cell = mix_digest(cell, static_cast<uint64_t>(s.tokens[p]) + 1);
    written.cells.push_back(cell);
  }
  return written;
}

std::string CellMemory::compute(const Run& run) {
  const auto end = static_cast<uint32_t>(run.cells.size());
  for (size_t c = 0; c < layout_.classes.size(); ++c) {
    const SlotClass& shape = layout_.classes[c];
    const SequenceBlocks::Table& table = run.tables[c];
    if (is_fixed(shape)) {
      uint64_t& state = block(c, table.ids.at(0))[0];
      if (run.first > 0 && state != run.cells[run.first - 1])
        return fmt::format("sequence {} goes on from a state of other tokens", run.seq);
      state = run.cells[end - 1];
      continue;
    }
    for (uint32_t p = first_readable(shape, run.first); p < end; ++p) {
      const uint32_t number = p / shape.block_tokens;
      if (number < table.first_block || number - table.first_block >= table.ids.size())
        return fmt::format("sequence {} has no block for its row {}", run.seq, p);
      uint64_t& row = block(c, table.ids[number - table.first_block])[p % shape.block_tokens];
      if (p >= run.first) row = run.cells[p];
      if (row != run.cells[p])
        return fmt::format("sequence {} reads other tokens in its row {}", run.seq, p);
    }
  }
  return "";
}

void CellMemory::copy_blocks(std::span<const BlockCopy> copies) {
  for (const BlockCopy& c : copies)
    std::ranges::copy(block(c.slot_class, c.from), block(c.slot_class, c.to).begin());
}

void CellMemory::save(SeqId seq, const SequenceBlocks& blocks) {
  CHECK(!saved_.contains(seq)) << "sequence " << seq << " was saved already";
  std::vector<uint64_t>& saved = saved_[seq];
  for (size_t c = 0; c < layout_.classes.size(); ++c) {
    for (const BlockId id : blocks.table(c).ids) {
      const auto rows = block(c, id);
      saved.insert(saved.end(), rows.begin(), rows.end());
    }
  }
}

void CellMemory::restore(SeqId seq, const SequenceBlocks& blocks) {
  auto from = saved_.at(seq).begin();
  for (size_t c = 0; c < layout_.classes.size(); ++c) {
    for (const BlockId id : blocks.table(c).ids) {
      const auto rows = block(c, id);
      CHECK(saved_.at(seq).end() - from >= static_cast<std::ptrdiff_t>(rows.size()));
      std::copy_n(from, rows.size(), rows.begin());
      from += static_cast<std::ptrdiff_t>(rows.size());
    }
  }
  CHECK(from == saved_.at(seq).end()) << "sequence " << seq << " came back into fewer blocks";
  forget(seq);
}

void CellMemory::forget(SeqId seq) { CHECK(saved_.erase(seq) == 1) << "sequence " << seq; }

}  // namespace trireme::test
