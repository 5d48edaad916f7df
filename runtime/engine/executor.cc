#include "runtime/engine/executor.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include <fmt/format.h>

namespace trireme {
namespace {

// Blocks that every rank can hold: the least of each class over all ranks, so that every rank plans
// with the same pools. Where one rank cannot hold a single sequence, every rank fails.
Result<std::vector<uint32_t>> agree_on_blocks(Communicator& world, const CacheLayout& layout,
                                              const Result<std::vector<uint32_t>>& counted) {
  const auto count = static_cast<int64_t>(layout.classes.size());
  if (world.size() == 1 || count == 0) return counted;
  std::vector<int32_t> mine(count, 0);  // 0: does not fit here
  if (counted.ok()) mine.assign(counted->begin(), counted->end());
  std::vector<int32_t> all(count * world.size());
  const Status gathered = world.all_gather(tensor(mine.data(), 1, count, DType::kI32),
                                           tensor(all.data(), world.size(), count, DType::kI32));
  if (!gathered.ok()) return gathered;
  if (!counted.ok()) return counted.status();
  std::vector<uint32_t> least = *counted;
  for (int64_t i = 0; i < count; ++i) {
    for (int rank = 0; rank < world.size(); ++rank) {
      const auto there = static_cast<uint32_t>(all[rank * count + i]);
      if (there == 0)
        return resource_exhausted(
            fmt::format("the cache of rank {} cannot hold one sequence", rank));
      least[i] = std::min(least[i], there);
    }
  }
  return least;
}

}  // namespace

Result<std::unique_ptr<Executor>> Executor::make(Device& device, Communicator& world,
                                                 const Groups& groups, Model& model,
                                                 const ExecutorOptions& options) {
  std::unique_ptr<Executor> executor(new Executor(device, groups, model));
  const CacheLayout& layout = model.layout();
  Result<std::vector<uint32_t>> blocks =
      agree_on_blocks(world, layout,
                      count_blocks(layout, options.cache_bytes, options.tokens_max,
                                   options.chunk_max, options.sequences_max, options.prefixes));
  if (!blocks.ok()) return blocks.status();
  executor->blocks_total_ = blocks.take();
  Result<BlockStore> store = BlockStore::make(device, layout, executor->blocks_total_);
  if (!store.ok()) return store.status();
  executor->store_ = store.take();
  Result<std::unique_ptr<CacheTraffic>> traffic =
      CacheTraffic::make(device, executor->store_, layout, options.swap_bytes);
  if (!traffic.ok()) return traffic.status();
  executor->traffic_ = traffic.take();

  std::vector<uint32_t> table_blocks;
  for (const SlotClass& c : layout.classes)
    table_blocks.push_back(blocks_peak(c, options.tokens_max, options.chunk_max));
  auto builder = BatchBuilder::make(device, model.spec(), layout, executor->store_,
                                    model.cache_dtype(), std::move(table_blocks), model.rows_max(),
                                    options.sequences_max, groups.here.shard, groups.mesh.shards);
  if (!builder.ok()) return builder.status();
  executor->builder_ = builder.take();
  if (Status s = executor->allocate_logits(); !s.ok()) return s;
  const bool capturable = groups.shards->size() == 1 || groups.shards->capturable();
  if (options.record_steps && device.can_record() && capturable) {
    executor->recorded_ = std::make_unique<RecordedSteps>(device);
    executor->padded_max_ = std::min(
        {static_cast<int64_t>(options.sequences_max), model.rows_max(), model.logit_rows_max()});
  }
  return executor;
}

Status Executor::allocate_logits() {
  if (!groups_.last_stage()) return Status::ok_status();
  const size_t bytes =
      static_cast<size_t>(model_.logit_rows_max() * model_.spec().vocab) * sizeof(float);
  Result<Buffer> logits = device_.allocate(bytes);
  if (!logits.ok()) return logits.status();
  logits_ = logits.take();
  if (device_.place() == Place::kHost) return Status::ok_status();
  Result<Buffer> on_host = device_.allocate_pinned(bytes);
  if (!on_host.ok()) return on_host.status();
  logits_on_host_ = on_host.take();
  return Status::ok_status();
}

void Executor::copy_block(size_t slot_class, BlockId from, BlockId to) {
  traffic_->settle();
  const uint64_t bytes = store_.block_stride(slot_class);
  if (bytes > 0) device_.copy(store_.block(slot_class, to), store_.block(slot_class, from), bytes);
}

void Executor::prepare(std::span<const SequenceRun> runs, int32_t rows_min) {
  padded_size_ = padded_size(runs, rows_min);
  likeliest_only_ = groups_.last_stage() && model_.vocab_head().can_gather_best() &&
                    std::all_of(runs.begin(), runs.end(), [](const SequenceRun& run) {
                      return run.logits == SequenceRun::Logits::kNone ||
                             (run.logits == SequenceRun::Logits::kLast && run.likeliest_only);
                    });
  prepared_ = builder_->build(runs, padded_size_);
}

int32_t Executor::padded_size(std::span<const SequenceRun> runs, int32_t rows_min) const {
  if (recorded_ == nullptr || runs.empty() || static_cast<int64_t>(runs.size()) > padded_max_)
    return 0;
  for (const SequenceRun& run : runs) {
    if (run.tokens.size() != 1 || run.logits == SequenceRun::Logits::kNone) return 0;
  }
  return recorded_size(std::max(static_cast<int32_t>(runs.size()), rows_min),
                       static_cast<int32_t>(padded_max_));
}

Status Executor::compute(LogitsUser* user, const Meanwhile& meanwhile) {
  if (!prepared_.ok()) return prepared_;
  meanwhile_ = meanwhile ? &meanwhile : nullptr;
  if (!computes_aside()) do_meanwhile();
  const Status computed = compute_stage(user);
  do_meanwhile();  // where nothing was waited for
  return computed;
}

void Executor::do_meanwhile() {
  if (meanwhile_ != nullptr) (*std::exchange(meanwhile_, nullptr))();
}

Status Executor::compute_stage(LogitsUser* user) {
  traffic_->start();
  const DecoderBatch& batch = builder_->batch();
  const bool after_exit = model_.stage().begin >= model_.spec().logits_only_from;
  Carry carry =
      model_.carry(batch.all.rows.rows, after_exit ? batch.logits.rows.rows : batch.all.rows.rows);
  if (!groups_.first_stage()) {
    if (Status s = receive(carry); !s.ok()) return s;
  }
  const Status computed =
      padded_size_ > 0 ? compute_recorded(carry, user) : compute_plainly(carry, user);
  if (!computed.ok() || groups_.last_stage()) return computed;
  return send(carry);
}

Status Executor::queue_stage(Carry& carry, CacheGate* gate) {
  const DecoderBatch& batch = builder_->batch();
  builder_->compute_ropes();
  if (groups_.first_stage()) {
    if (Status s = model_.embed(builder_->ids(), batch.all.rows.rows, carry); !s.ok()) return s;
  }
  return model_.forward(batch, builder_->states(), carry, gate);
}

void Executor::fetch(const std::vector<uint8_t>& wanted) {
  const auto row_bytes = static_cast<size_t>(model_.spec().vocab) * sizeof(float);
  for (size_t i = 0; i < wanted.size();) {
    size_t end = i;
    while (end < wanted.size() && wanted[end] == wanted[i]) ++end;
    if (wanted[i] != 0) {  // neighbours in one copy
      device_.copy(static_cast<std::byte*>(logits_on_host_.data()) + i * row_bytes,
                   static_cast<const std::byte*>(logits_.data()) + i * row_bytes,
                   (end - i) * row_bytes);
    }
    i = end;
  }
}

Status Executor::gather_logits(int64_t count) {
  VocabParallelHead& head = model_.vocab_head();
  return likeliest_only_ ? head.gather_best(count)
                         : head.gather(float_rows(logits_, count, model_.spec().vocab));
}

Status Executor::hand_out(int64_t first, int64_t count, LogitsUser* user) {
  if (Status s = gather_logits(count); !s.ok()) return s;
  if (likeliest_only_) {
    do_meanwhile();
    if (Status s = device_.synchronize(); !s.ok()) return s;
    if (user == nullptr) return Status::ok_status();
    model_.vocab_head().tokens(likeliest_);
    return user->take_likeliest(first, likeliest_);
  }
  const bool far = computes_aside();
  const auto vocab = model_.spec().vocab;
  wanted_.assign(static_cast<size_t>(count), user != nullptr ? 1 : 0);
  if (far && user != nullptr) {
    if (Status s = user->queue(first, float_rows(logits_, count, vocab), wanted_); !s.ok())
      return s;
  }
  if (far) fetch(wanted_);
  do_meanwhile();
  if (Status s = device_.synchronize(); !s.ok()) return s;
  if (user == nullptr) return Status::ok_status();
  if (far && user->settle(first, wanted_)) {
    fetch(wanted_);
    if (Status s = device_.synchronize(); !s.ok()) return s;
  }
  const TraceSpan span(trace_, TraceEvent::Name::kSample, 0, static_cast<uint32_t>(count));
  return user->take(first, float_rows(far ? logits_on_host_ : logits_, count, vocab));
}

Status Executor::compute_plainly(Carry& carry, LogitsUser* user) {
  {
    const TraceSpan span(trace_, TraceEvent::Name::kForward);
    if (Status s = queue_stage(carry, traffic_.get()); !s.ok()) return s;
    traffic_->settle();
  }
  if (!groups_.last_stage()) return Status::ok_status();
  const TraceSpan span(trace_, TraceEvent::Name::kHead, 0, static_cast<uint32_t>(carry.x.rows));
  for (int64_t first = 0; first < carry.x.rows; first += model_.logit_rows_max()) {
    const int64_t count = std::min(model_.logit_rows_max(), carry.x.rows - first);
    model_.head(carry.x.row_range(first, count), float_rows(logits_, count, model_.spec().vocab));
    if (Status s = hand_out(first, count, user); !s.ok()) return s;
  }
  return Status::ok_status();
}

// All rows want logits and have room in one call of the head: padded_size().
Status Executor::compute_recorded(Carry& carry, LogitsUser* user) {
  const TraceSpan span(trace_, TraceEvent::Name::kForward);
  traffic_->settle();  // a recording waits for nothing inside
  bool ran = false;
  const auto work = [&]() -> Status {
    Carry queued = carry;
    if (Status s = queue_stage(queued, nullptr); !s.ok()) return s;
    if (!groups_.last_stage()) return Status::ok_status();
    model_.head(queued.x, float_rows(logits_, queued.x.rows, model_.spec().vocab));
    return Status::ok_status();
  };
  if (Status s = recorded_->run(padded_size_, work, ran); !s.ok()) return s;
  if (!ran) {
    model_.count_step(builder_->rows(), builder_->logit_rows());
    if (Status s = groups_.shards->queued_recording(); !s.ok()) return s;
  }
  if (!groups_.last_stage()) return Status::ok_status();
  return hand_out(0, builder_->logit_rows(), user);
}

bool Executor::repeat(int times) {
  if (recorded_ == nullptr || padded_size_ == 0) return false;
  for (int i = 0; i < times; ++i) {
    if (!recorded_->replay_again()) return false;
    if (groups_.last_stage() && !gather_logits(builder_->logit_rows()).ok()) return false;
  }
  return true;
}

// What crosses a stage boundary: the rows that go on, then the side of all rows, without padding,
// which is each stage's own. Shard i talks to shard i, so that a sliced side needs no gathering.
Carry Executor::without_padding(const Carry& carry) const {
  const int64_t padding = builder_->batch().padding;
  return {carry.x.row_range(0, carry.x.rows - padding),
          carry.side.row_range(0, carry.side.rows - padding)};
}

Status Executor::receive(const Carry& carry) {
  const TraceSpan span(trace_, TraceEvent::Name::kReceive);
  const auto start = std::chrono::steady_clock::now();
  const int from = groups_.here.stage - 1;
  const Carry real = without_padding(carry);
  if (real.x.rows > 0) {
    if (Status s = groups_.stages->receive(real.x, from); !s.ok()) return s;
  }
  if (model_.side_crosses(model_.stage().begin) && real.side.rows > 0) {
    if (Status s = groups_.stages->receive(real.side, from); !s.ok()) return s;
  }
  const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - start;
  stage_wait_seconds_ += waited.count();
  return Status::ok_status();
}

Status Executor::send(const Carry& carry) {
  const TraceSpan span(trace_, TraceEvent::Name::kSend);
  const int to = groups_.here.stage + 1;
  const Carry real = without_padding(carry);
  if (real.x.rows > 0) {
    if (Status s = groups_.stages->send(real.x, to); !s.ok()) return s;
  }
  if (model_.side_crosses(model_.stage().end) && real.side.rows > 0)
    return groups_.stages->send(real.side, to);
  return Status::ok_status();
}

}  // namespace trireme
