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
  if (Status s = device.synchronize(); !s.ok()) return s;  // `numbers` ends here
  return head;
}

Status VocabParallelHead::forward(ConstTensorView x, TensorView logits) {
  CHECK(x.rows <= rows_max_ && logits.rows == x.rows && logits.cols == table_->vocab);
  if (shards_.size() == 1) {  // one shard has no padding
    device_.ops().linear(x, table_->rows.view(), logits);
    return Status::ok_status();
  }
  const int64_t part = table_->rows.rows;
  const TensorView mine = float_rows(mine_, x.rows, part);
  const TensorView all = float_rows(all_, x.rows * shards_.size(), part);
  device_.ops().linear(x, table_->rows.view(), mine);
  if (Status s = shards_.all_gather(mine, all); !s.ok()) return s;
  for (int shard = 0; shard < shards_.size(); ++shard) {
    const int64_t first = part * shard;
    const int64_t count = std::clamp<int64_t>(table_->vocab - first, 0, part);
    if (count == 0) continue;
    place(all.row_range(shard * x.rows, x.rows).col_range(0, count),
          logits.col_range(first, count));
  }
  return Status::ok_status();
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
