#include "kernels/cuda/row_chain.h"

#include <algorithm>
#include <utility>

namespace trireme::cuda {
namespace {

// A row in memory.
struct Floats {
  const float* data;
  int64_t count;
};
bool overlap(Floats a, Floats b) {
  return a.data != nullptr && b.data != nullptr && a.data < b.data + b.count &&
         b.data < a.data + a.count;
}
Floats read_by(const Call& c) { return {c.x, c.inputs}; }
Floats written_by(const Call& c) { return {c.y, c.outputs}; }

}  // namespace

RowChain::RowChain(Context& context) : context_(context) { context_.collect_in(this); }
RowChain::~RowChain() { context_.collect_in(nullptr); }

// Whether the calls can be a stage whose row is made by what waits.
bool RowChain::reads_what_waits(DType dtype, std::span<const Call> calls, int8_t* mix_of) const {
  const RowNorm& norm = waiting_.norm;
  const RowShift& shift = waiting_.shift;
  const bool shifts = waiting_.shift_alone != nullptr;
  if (!can_stream(dtype, norm)) return false;
  for (size_t i = 0; i < calls.size(); ++i) {
    const Call& c = calls[i];
    const int64_t from = c.x - (shifts ? shift.out : norm.y);
    const int64_t mix = from / norm.cols;
    if (c.inputs != norm.cols || from < 0 || from % norm.cols != 0 ||
        mix >= (shifts ? shift.mixes : 1))
      return false;
    mix_of[i] = static_cast<int8_t>(mix);
    // Some blocks still read, or have yet to write, what others have done with.
    const Floats y = written_by(c);
    const bool apart = !overlap(y, {norm.x, norm.cols}) && !overlap(y, {norm.delta, norm.cols}) &&
                       !overlap(y, {norm.y, norm.cols}) &&
                       !(shifts && overlap(y, {shift.out, shift.mixes * norm.cols}));
    if (!apart) return false;
  }
  return true;
}

// Whether the calls can be a stage after the last one: what that stage's norm leaves is written
// when the next one has begun.
bool RowChain::may_follow(std::span<const Call> calls) const {
  const StreamStage& last = stream_.stages[stream_.stage_count - 1];
  if (!last.norms) return true;
  return std::ranges::none_of(calls, [&](const Call& c) {
    const Floats x{last.norm.x, last.norm.cols}, y{last.norm.y, last.norm.cols};
    return overlap(read_by(c), x) || overlap(written_by(c), x) || overlap(written_by(c), y);
  });
}

void RowChain::products(DType dtype, std::span<const Call> calls) {
  const auto count = static_cast<int32_t>(calls.size());
  const bool norms = waiting_.norm_alone != nullptr;
  int8_t mix_of[kStreamCallsMax] = {};
  if (norms && !reads_what_waits(dtype, calls, mix_of)) queue();
  const bool made = waiting_.norm_alone != nullptr;
  if (stream_.stage_count > 0) {
    const bool fits = dtype == dtype_ && stream_.stage_count < kStagesMax &&
                      stream_.call_count + count <= kStreamCallsMax;
    const bool after_norm = stream_.stages[stream_.stage_count - 1].norms;
    if (!fits || !may_follow(calls) || (made && after_norm)) launch();
  }
  dtype_ = dtype;
  StreamStage& stage = stream_.stages[stream_.stage_count++];
  stage = {};
  stage.first_call = stream_.call_count;
  stage.calls = count;
  if (made) {
    stage.norms = true;
    stage.norm = waiting_.norm;
    stage.shifts = waiting_.shift_alone != nullptr;
    if (stage.shifts) stage.shift = waiting_.shift;
    waiting_ = {};
  }
  for (int32_t i = 0; i < count; ++i) {
    stream_.mix_of[stream_.call_count] = mix_of[i];
    stream_.each[stream_.call_count++] = calls[i];
  }
  context_.leave({});
  if (!context_.chains()) queue();
}

bool RowChain::norm(const RowNorm& norm, std::function<void()> alone) {
  if (!context_.chains()) return false;
  const Floats x{norm.x, norm.cols}, y{norm.y, norm.cols};
  if (overlap(x, y) || overlap({norm.delta, norm.cols}, y)) return false;
  let_go();
  waiting_.norm = norm;
  waiting_.norm_alone = std::move(alone);
  context_.leave({});
  return true;
}

bool RowChain::shift(const void* x, const RowShift& shift, std::function<void()> alone) {
  const RowNorm& norm = waiting_.norm;
  if (waiting_.norm_alone == nullptr || waiting_.shift_alone != nullptr || x != norm.y)
    return false;
  const Floats out{shift.out, shift.mixes * norm.cols};
  if (overlap(out, {norm.x, norm.cols}) || overlap(out, {norm.y, norm.cols}) ||
      overlap(out, {norm.delta, norm.cols}))
    return false;
  waiting_.shift = shift;
  waiting_.shift_alone = std::move(alone);
  return true;
}

void RowChain::launch() {
  if (stream_.stage_count == 0) return;
  // Queueing it asks for the stream again: nothing may be left here that is not to go yet.
  const Stream stream = std::exchange(stream_, {});
  Waiting waiting = std::exchange(waiting_, {});
  launch_stream(context_, dtype_, stream);
  waiting_ = std::move(waiting);
}

void RowChain::let_go() {
  if (waiting_.norm_alone == nullptr) return;
  launch();
  const Waiting waiting = std::exchange(waiting_, {});
  waiting.norm_alone();
  if (waiting.shift_alone) waiting.shift_alone();
}

void RowChain::queue() {
  let_go();
  launch();
}

}  // namespace trireme::cuda
