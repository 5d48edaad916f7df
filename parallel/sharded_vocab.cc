#include "parallel/sharded_vocab.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace trireme {

Status VocabParallelEmbedding::forward(const int32_t* ids, int32_t count, TensorView y) const {
  const int64_t first = vocab_range(table_->vocab, shards_.rank(), shards_.size()).first;
  ops_.embed(table_->rows.view(), ids, count, static_cast<int32_t>(first), scale_, y);
  return shards_.size() == 1 ? Status::ok_status() : shards_.all_reduce_sum(y);
}

Result<std::unique_ptr<VocabParallelHead>> VocabParallelHead::make(
    Device& device, Communicator& shards, std::shared_ptr<const VocabTable> table,
    int64_t rows_max) {
  const int64_t part = table->rows.rows;
  std::unique_ptr<VocabParallelHead> head(
      new VocabParallelHead(device, shards, std::move(table), rows_max));
  const bool far = device.place() != Place::kHost;
  const bool gathers = shards.size() > 1;
  struct Need {
    bool needed;
    Buffer* buffer;
    int64_t floats;
  };
  for (const Need& need : {Need{gathers, &head->mine_, rows_max * part},
                           Need{gathers, &head->all_, rows_max * part * shards.size()},
                           Need{far && gathers, &head->row_numbers_, rows_max}}) {
    if (!need.needed) continue;
    Result<Buffer> buffer = device.allocate(static_cast<size_t>(need.floats) * sizeof(float));
    if (!buffer.ok()) return buffer.status();
    *need.buffer = buffer.take();
  }
  if (!far || !gathers) return head;
  std::vector<int32_t> numbers;
  for (int64_t row = 0; row < rows_max; ++row) numbers.push_back(static_cast<int32_t>(row));
  device.copy(head->row_numbers_.data(), numbers.data(), numbers.size() * sizeof(int32_t));
  if (device.sampler() != nullptr) {
    if (Status s = head->prepare_best(); !s.ok()) return s;
  }
  if (Status s = device.synchronize(); !s.ok()) return s;  // `numbers` ends here
  return head;
}

Range VocabParallelHead::tokens_of(int shard) const {
  const Range padded = vocab_range(table_->vocab, shard, shards_.size());
  return {padded.first, std::clamp<int64_t>(table_->vocab - padded.first, 0, padded.count)};
}

// Also lets the sampler take the memory that the largest call needs: later ones take none.
Status VocabParallelHead::prepare_best() {
  const auto row = static_cast<size_t>(rows_max_) * sizeof(BestLogit);
  Result<Buffer> best = device_.allocate(row * static_cast<size_t>(1 + shards_.size()));
  if (!best.ok()) return best.status();
  best_ = best.take();
  Result<Buffer> on_host = device_.allocate_pinned(row * static_cast<size_t>(shards_.size()));
  if (!on_host.ok()) return on_host.status();
  best_on_host_ = on_host.take();
  return device_.sampler()->best(float_rows(mine_, rows_max_, table_->rows.rows), 0,
                                 static_cast<BestLogit*>(best_.data()));
}

void VocabParallelHead::multiply(const ResidualNorm& in, TensorView logits) {
  const int64_t rows = in.x.rows;
  CHECK(rows <= rows_max_ && logits.rows == rows && logits.cols == table_->vocab);
  // One shard has no padding.
  const TensorView part = shards_.size() == 1 ? logits : float_rows(mine_, rows, table_->rows.rows);
  const LinearCall product{in.y, table_->rows.view(), part, {}};
  device_.ops().norm_linears(in, {&product, 1});
}

Status VocabParallelHead::gather(TensorView logits) {
  if (shards_.size() == 1) return Status::ok_status();
  const int64_t part = table_->rows.rows, rows = logits.rows;
  const TensorView all = float_rows(all_, rows * shards_.size(), part);
  if (Status s = shards_.all_gather(float_rows(mine_, rows, part), all); !s.ok()) return s;
  for (int shard = 0; shard < shards_.size(); ++shard) {
    const auto [first, count] = tokens_of(shard);
    if (count == 0) continue;
    place(all.row_range(shard * rows, rows).col_range(0, count), logits.col_range(first, count));
  }
  return Status::ok_status();
}

Status VocabParallelHead::gather_best(int64_t rows) {
  static_assert(sizeof(BestLogit) == 2 * sizeof(float));
  CHECK(can_gather_best() && rows <= rows_max_);
  const Range tokens = tokens_of(shards_.rank());
  const TensorView part = float_rows(mine_, rows, table_->rows.rows).col_range(0, tokens.count);
  auto* mine = static_cast<BestLogit*>(best_.data());
  BestLogit* all = mine + rows_max_;
  if (Status s = device_.sampler()->best(part, static_cast<int32_t>(tokens.first), mine); !s.ok())
    return s;
  const auto pairs = [&](BestLogit* best, int64_t count) {
    return TensorView{best, count, 2, 2, DType::kF32, device_.place()};
  };
  if (Status s = shards_.all_gather(pairs(mine, rows), pairs(all, rows * shards_.size())); !s.ok())
    return s;
  best_rows_ = rows;
  device_.copy(best_on_host_.data(), all,
               static_cast<size_t>(rows * shards_.size()) * sizeof(BestLogit));
  return Status::ok_status();
}

void VocabParallelHead::tokens(std::vector<int32_t>& tokens) const {
  const auto* all = static_cast<const BestLogit*>(best_on_host_.data());
  tokens.clear();
  for (int64_t row = 0; row < best_rows_; ++row) {
    BestLogit best;
    for (int shard = 0; shard < shards_.size(); ++shard)
      best = best_of(best, all[shard * best_rows_ + row]);
    tokens.push_back(best.token);
  }
}

// to = from. On the host by hand: it is a copy, and no thread has to be woken for it.
void VocabParallelHead::place(ConstTensorView from, TensorView to) {
  if (device_.place() != Place::kHost) {
    device_.ops().gather_rows(from, static_cast<const int32_t*>(row_numbers_.data()),
                              static_cast<int32_t>(from.rows), to);
    return;
  }
  for (int64_t row = 0; row < from.rows; ++row) {
    std::memcpy(to.f32_row(row), from.f32_row(row), static_cast<size_t>(from.cols) * sizeof(float));
  }
}

}  // namespace trireme
