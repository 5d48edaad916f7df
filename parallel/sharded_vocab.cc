#include "parallel/sharded_vocab.h"

#include <algorithm>
#include <cstring>

namespace trireme {

Status VocabParallelEmbedding::forward(const int32_t* ids, int32_t count, TensorView y) const {
  const int64_t first = vocab_range(table_->vocab, shards_.rank(), shards_.size()).first;
  ops_.embed(table_->rows.view(), ids, count, static_cast<int32_t>(first), scale_, y);
  return shards_.size() == 1 ? Status::ok_status() : shards_.all_reduce_sum(y);
}

VocabParallelHead::VocabParallelHead(Device& device, Communicator& shards,
                                     std::shared_ptr<const VocabTable> table, int64_t rows_max)
    : device_(device), shards_(shards), table_(std::move(table)), rows_max_(rows_max) {
  const int64_t part = table_->rows.rows;
  mine_ = allocate_host(static_cast<size_t>(rows_max * part) * sizeof(float));
  if (shards.size() > 1) {
    all_ = allocate_host(static_cast<size_t>(rows_max * part * shards.size()) * sizeof(float));
  }
}

Status VocabParallelHead::forward(ConstTensorView x, TensorView logits) {
  CHECK(x.rows <= rows_max_ && logits.rows == x.rows && logits.cols == table_->vocab);
  const int64_t part = table_->rows.rows;
  if (shards_.size() == 1) {  // one shard has no padding: straight into place
    device_.ops().linear(x, table_->rows.view(), logits);
    return device_.synchronize();
  }
  const TensorView mine = tensor(mine_.data(), x.rows, part);
  device_.ops().linear(x, table_->rows.view(), mine);
  if (Status s = device_.synchronize(); !s.ok()) return s;
  const TensorView all = tensor(all_.data(), x.rows * shards_.size(), part);
  if (Status s = shards_.all_gather(mine, all); !s.ok()) return s;
  for (int shard = 0; shard < shards_.size(); ++shard) {
    const int64_t first = part * shard;
    const int64_t count = std::clamp<int64_t>(table_->vocab - first, 0, part);
    for (int64_t row = 0; row < x.rows && count > 0; ++row) {
      std::memcpy(logits.f32_row(row) + first, all.f32_row(shard * x.rows + row),
                  static_cast<size_t>(count) * sizeof(float));
    }
  }
  return Status::ok_status();
}

}  // namespace trireme
