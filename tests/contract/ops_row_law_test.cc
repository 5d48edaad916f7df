// The Row law, bit by bit: what the CPU backend computes for a token is the same in any company,
// however its sequence is cut into steps, whichever blocks hold its cache, with any number of
// threads, on any instruction set. Every case is compared with one baseline: the widest instruction
// set, one thread, whole sequences in one step.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "kernels/base/quantize.h"
#include "tests/contract/ops_cache.h"

namespace trireme::contract {
namespace {

class RowLaw : public testing::TestWithParam<DeviceCase> {
 protected:
  std::unique_ptr<Device> device_ = make_device(GetParam());
  std::unique_ptr<Device> baseline_ = make_device({"", 1});
};

INSTANTIATE_TEST_SUITE_P(Devices, RowLaw, testing::ValuesIn(cpu_cases()), case_name);

// ---- ops that know one row at a time ----

constexpr int32_t kRows = 67;
constexpr int64_t kDim = 24, kHeads = 20, kCols = kDim * kHeads;

// What the stateless ops are given, the same on every device.
struct RowInputs {
  std::vector<std::vector<float>> rows;  // [input], each [kRows, kCols]
  std::vector<float> weight, parameters;
  RowInputs() {
    Random random(3000);
    for (int i = 0; i < 9; ++i) rows.push_back(random.normals(kRows * kCols));
    weight = random.normals(70 * kCols);
    parameters = random.normals(kCols);
  }
};

// All stateless ops on rows [first, first + count) of the inputs; result[i] is what became of row
// first + i.
std::vector<std::vector<float>> rows_through_all_ops(Device& device, const RowInputs& given,
                                                     int32_t first, int32_t count) {
  Ops& ops = device.ops();
  std::vector<Mat> inputs;
  for (size_t i = 0; i < given.rows.size(); ++i) {
    inputs.emplace_back(device, count, kCols, static_cast<int64_t>(i));
    inputs.back().set(given.rows[i].data() + first * kCols);
  }
  Mat gain(device, 1, kCols), head_gain(device, 1, kDim), frequencies(device, 1, 10);
  for (Mat* parameter : {&gain, &head_gain, &frequencies}) parameter->set(given.parameters.data());
  Matrix weight = device.make_matrix(70, kCols, DType::kBF16).take();
  device.write_rows(weight, 0, ConstTensorView(given.weight.data(), 70, kCols, DType::kF32));
  const QuantizedRows codes = quantize(ConstTensorView(given.weight.data(), 70, kCols, DType::kF32),
                                       {WeightType::kInt4, 64})
                                  .take();
  Matrix quantized = device.make_matrix(70, kCols, codes.format).take();
  device.write_quantized_rows(quantized, 0, codes.view());
  std::vector<int32_t> numbers;
  for (int32_t t = first; t < first + count; ++t) numbers.push_back((t * 37) % 90 - 10);
  const Array<int32_t> ids(device, numbers);
  for (int32_t& n : numbers) n = 1000 * (n + 10);
  const Array<int32_t> positions(device, numbers);
  const auto in = [&](size_t i) { return inputs[i].view(); };

  std::vector<std::vector<float>> results(static_cast<size_t>(count));
  const auto collect = [&](Mat& y) {
    y.fetch();
    for (int32_t t = 0; t < count; ++t) {
      const std::vector<float> row = y.row(t);
      auto& result = results[static_cast<size_t>(t)];
      result.insert(result.end(), row.begin(), row.end());
    }
  };
  const auto to_new = [&](int64_t cols, const std::function<void(TensorView)>& op) {
    Mat y(device, count, cols, 3);
    op(y.view());
    collect(y);
  };
  for (NormKind kind : {NormKind::kRms, NormKind::kLayer}) {
    NormArgs args;
    args.kind = kind;
    args.gain = gain.view();
    to_new(kCols, [&](TensorView y) { ops.norm(in(0), args, y); });
    args.groups = kHeads;
    args.gain = args.bias = head_gain.view();
    to_new(kCols, [&](TensorView y) { ops.norm(in(0), args, y); });
  }
  for (int kind = 0; kind < 4; ++kind) {
    to_new(kCols, [&](TensorView y) { ops.activate(static_cast<Activation>(kind), in(0), y); });
  }
  to_new(kCols, [&](TensorView y) { ops.swiglu(in(0), in(1), y); });
  to_new(70, [&](TensorView y) { ops.linear(in(0), weight.view(), y); });
  to_new(70, [&](TensorView y) { ops.linear(in(0), quantized.view(), y); });
  to_new(kCols, [&](TensorView y) { ops.embed(weight.view(), ids.data(), count, 0, 1.5f, y); });
  Mat table(device, count, 20);
  ops.rope_table(positions.data(), count, frequencies.view(), 1, table.view());
  collect(table);
  ops.rope(table.view(), RopeStyle::kHalves, kDim, in(1));
  ops.rope(table.view(), RopeStyle::kInterleaved, kDim, in(2));
  Wkv7PrepareArgs prepare;
  prepare.w = in(3), prepare.a = in(4), prepare.b = in(5), prepare.k = in(6), prepare.v = in(7);
  prepare.v_gate = in(0), prepare.v_first = in(1);
  prepare.k_k = prepare.k_a = gain.view();
  prepare.head_dim = kDim;
  ops.wkv7_prepare(prepare);
  Wkv7FinishArgs finish;
  finish.r = in(1), finish.k = in(6), finish.v = in(7), finish.g = in(0);
  finish.r_k = gain.view();
  finish.head_dim = kDim;
  ops.wkv7_finish(finish, in(8));
  for (size_t i = 1; i < inputs.size(); ++i) collect(inputs[i]);
  return results;
}

TEST_P(RowLaw, RowsInAnyCompany) {
  const RowInputs inputs;
  const auto whole = rows_through_all_ops(*baseline_, inputs, 0, kRows);
  for (int32_t step : {kRows, 1, 5}) {
    for (int32_t first = 0; first < kRows; first += step) {
      const int32_t count = std::min(step, kRows - first);
      const auto part = rows_through_all_ops(*device_, inputs, first, count);
      for (int32_t t = 0; t < count; ++t) {
        expect_same_bits(
            part[static_cast<size_t>(t)], whole[static_cast<size_t>(first + t)],
            "row " + std::to_string(first + t) + " in steps of " + std::to_string(step));
        if (HasFailure()) return;
      }
    }
  }
}

// ---- sequences ----

// The runs of one step: sequence, and rows that come next of it.
struct StepRun {
  int32_t sequence, rows;
};
using Plan = std::vector<std::vector<StepRun>>;

// Every sequence in chunks of `chunk` rows, together.
Plan in_chunks(const std::vector<int32_t>& lengths, int32_t chunk) {
  Plan plan;
  for (int32_t done = 0;; done += chunk) {
    std::vector<StepRun> step;
    for (size_t s = 0; s < lengths.size(); ++s) {
      const int32_t rows = std::min(chunk, lengths[s] - done);
      if (rows > 0) step.push_back({static_cast<int32_t>(s), rows});
    }
    if (step.empty()) return plan;
    plan.push_back(step);
  }
}

// One sequence after the other, from the last to the first, each in two unequal parts.
Plan one_by_one(const std::vector<int32_t>& lengths) {
  Plan plan;
  for (auto s = static_cast<int32_t>(lengths.size()) - 1; s >= 0; --s) {
    const int32_t length = lengths[static_cast<size_t>(s)], part = length / 3;
    if (part > 0) plan.push_back({{s, part}});
    plan.push_back({{s, length - part}});
  }
  return plan;
}

// What became of each position of each sequence, in order.
using Outputs = std::vector<std::vector<float>>;  // [sequence]

using StepFunction = std::function<Mat(const Batch& batch, const std::vector<int32_t>& sequences)>;

// Runs the steps of a plan through `step`, which returns one row per row of the batch.
Outputs play(Device& device, const Plan& plan, size_t sequences, const StepFunction& step) {
  std::vector<int32_t> next(sequences, 0);
  Outputs outputs(sequences);
  for (const std::vector<StepRun>& runs : plan) {
    std::vector<RunSpec> specs;
    std::vector<int32_t> ids;
    for (const StepRun& run : runs) {
      specs.push_back({next[static_cast<size_t>(run.sequence)], run.rows});
      ids.push_back(run.sequence);
      next[static_cast<size_t>(run.sequence)] += run.rows;
    }
    const Batch batch(device, specs);
    Mat out = step(batch, ids);
    out.fetch();
    for (int32_t i = 0; i < batch.sequences(); ++i) {
      auto& to = outputs[static_cast<size_t>(ids[static_cast<size_t>(i)])];
      for (int32_t t = batch.offset(i); t < batch.offset(i + 1); ++t) {
        const std::vector<float> row = out.row(t);
        to.insert(to.end(), row.begin(), row.end());
      }
    }
  }
  return outputs;
}

void expect_same(const Outputs& got, const Outputs& want, const std::string& what) {
  for (size_t s = 0; s < want.size(); ++s) {
    expect_same_bits(got[s], want[s], what + ", sequence " + std::to_string(s));
  }
}

// Stores, then attends.
Outputs attention(Device& device, const CacheSpec& spec, const Sequences& all,
                  const std::vector<int32_t>& lengths, const Plan& plan, uint64_t shuffle) {
  Cache cache(device, spec, lengths, shuffle);
  return play(device, plan, lengths.size(),
              [&](const Batch& batch, const std::vector<int32_t>& sequences) {
                std::vector<int32_t> first;
                for (int32_t i = 0; i < batch.sequences(); ++i) {
                  first.push_back(batch.position(batch.offset(i)));
                }
                const KvView view = cache.view(sequences, first);
                const Mat q = Sequences::rows(device, all.q, sequences, batch, 1);
                const Mat k = Sequences::rows(device, all.k, sequences, batch, 0);
                const Mat v = Sequences::rows(device, all.v, sequences, batch, 2);
                Mat out(device, q.rows(), q.cols());
                device.ops().store_kv(k.view(), v.view(), batch.ragged(), view);
                device.ops().attend(q.view(), batch.ragged(), view, 0.2f, out.view());
                return out;
              });
}

TEST_P(RowLaw, AttentionHoweverCutAndWhereverCached) {
  const CacheSpec specs[] = {{1, 12, 16, 0, DType::kBF16},
                             {2, 32, 64, 50, DType::kF16},
                             {1, 16, 48, 0, DType::kF32},
                             {1, 16, 5, 70, DType::kF32},
                             {2, 16, 256, 300, DType::kBF16}};
  for (const CacheSpec& spec : specs) {
    const bool beyond_a_split = spec.window_tokens == 300 || spec.block_tokens == 16;
    const std::vector<int32_t> lengths = {beyond_a_split ? 540 : 100, 1, 70};
    Random random(3100);
    const Sequences all(random, spec, 4, lengths);
    const Outputs want =
        attention(*baseline_, spec, all, lengths, in_chunks(lengths, 1 << 20), 3200);
    const std::string what = "blocks of " + std::to_string(spec.block_tokens);
    for (int32_t chunk : {1, 7, 64, 1 << 20}) {
      expect_same(attention(*device_, spec, all, lengths, in_chunks(lengths, chunk),
                            static_cast<uint64_t>(3300 + chunk)),
                  want, what + ", chunks of " + std::to_string(chunk));
    }
    expect_same(attention(*device_, spec, all, lengths, one_by_one(lengths), 3400), want,
                what + ", one by one");
    if (HasFailure()) return;
  }
}

// A NaN at position 40 reaches the rows from 40 on and no earlier one, in the same chunk or not.
TEST_P(RowLaw, LaterTokensDoNotReachEarlierRows) {
  for (int32_t window : {0, 8}) {
    const CacheSpec spec{1, 16, 32, window, DType::kF32};
    Outputs results[2];
    for (bool poisoned : {false, true}) {
      Random random(3500);
      Sequences all(random, spec, 2, {64});
      if (poisoned) {
        for (size_t p = 40; p < 64; ++p) {
          std::fill(all.k[0][p].begin(), all.k[0][p].end(), std::numeric_limits<float>::infinity());
          std::fill(all.v[0][p].begin(), all.v[0][p].end(), NAN);
        }
      }
      Cache cache(*device_, spec, {64}, 3500);
      const Batch batch(*device_, std::vector<RunSpec>{{0, 64}});
      const KvView view = cache.view({0}, {0});
      const Mat q = Sequences::rows(*device_, all.q, {0}, batch, 0);
      const Mat k = Sequences::rows(*device_, all.k, {0}, batch, 0);
      const Mat v = Sequences::rows(*device_, all.v, {0}, batch, 0);
      Mat out(*device_, 64, 32);
      device_->ops().store_kv(k.view(), v.view(), batch.ragged(), view);
      device_->ops().attend(q.view(), batch.ragged(), view, 0.25f, out.view());
      out.fetch();
      for (int64_t t = 0; t < 64; ++t) results[poisoned].push_back(out.row(t));
    }
    for (size_t t = 0; t < 64; ++t) {
      if (t < 40) {
        expect_same_bits(results[1][t], results[0][t], "row " + std::to_string(t));
      } else {
        EXPECT_TRUE(std::isnan(results[1][t][0])) << "row " << t << " hides a NaN";
      }
    }
  }
}

// All recurrences over the same inputs, their outputs side by side, then the states they left.
constexpr int64_t kHeadDim = 32, kWide = 5 * kHeadDim;  // 160 channels: not whole chunks of 64

Outputs recurrences(Device& device, const std::vector<int32_t>& lengths,
                    const std::vector<Outputs>& inputs, const Plan& plan) {
  Random random(3700);
  Ops& ops = device.ops();
  Mat mix = Mat::parameter(device, random, 2, kWide), w = Mat::parameter(device, random, 1, kWide);
  const auto count = static_cast<int32_t>(lengths.size());
  States shift(device, count, kWide), wkv4(device, count, 3 * kWide);
  States wkv7(device, count, kWide * kHeadDim), retention(device, count, kWide * kHeadDim);
  // States of the sequences that are in a step, in its order.
  const auto of = [&](const States& states, const std::vector<int32_t>& sequences) {
    std::vector<std::byte*> bases;
    for (int32_t s : sequences) bases.push_back(states.base(s));
    return std::make_pair(Array<std::byte*>(device, bases), states.rows().offset);
  };
  Outputs outputs = play(
      device, plan, lengths.size(), [&](const Batch& batch, const std::vector<int32_t>& sequences) {
        std::vector<Mat> x;
        for (const Outputs& input : inputs) {
          x.emplace_back(device, batch.rows(), kWide);
          for (int32_t i = 0; i < batch.sequences(); ++i) {
            for (int32_t t = batch.offset(i); t < batch.offset(i + 1); ++t) {
              const auto& from = input[static_cast<size_t>(sequences[static_cast<size_t>(i)])];
              for (int64_t c = 0; c < kWide; ++c) {
                x.back().at(t, c) = from[static_cast<size_t>(batch.position(t) * kWide + c)];
              }
            }
          }
          x.back().put();
        }
        const auto shift_now = of(shift, sequences), wkv4_now = of(wkv4, sequences);
        const auto wkv7_now = of(wkv7, sequences), retention_now = of(retention, sequences);
        Mat out(device, batch.rows(), 5 * kWide);
        const auto columns = [&](int64_t i) { return out.view().col_range(i * kWide, kWide); };
        ops.shift_mix(x[0].view(), batch.ragged(), {shift_now.first.data(), shift_now.second},
                      mix.view(), out.view().col_range(0, 2 * kWide));
        Wkv4Args four;
        four.k = x[1].view(), four.v = x[2].view(), four.r = x[3].view();
        four.w = four.u = w.view();
        ops.wkv4(four, batch.ragged(), {wkv4_now.first.data(), wkv4_now.second}, columns(2));
        Wkv7Args seven;
        seven.r = x[4].view(), seven.w = x[5].view(), seven.k = x[6].view();
        seven.v = x[7].view(), seven.a = x[8].view(), seven.b = x[9].view();
        seven.heads = kWide / kHeadDim, seven.head_dim = kHeadDim;
        ops.wkv7(seven, batch.ragged(), {wkv7_now.first.data(), wkv7_now.second}, columns(3));
        RetentionArgs kept;
        kept.q = x[1].view(), kept.k = x[2].view(), kept.v = x[3].view();
        kept.gate = x[4].view().col_range(7, kWide / kHeadDim);
        kept.heads = kWide / kHeadDim, kept.head_dim = kHeadDim;
        ops.retention(kept, batch.ragged(), {retention_now.first.data(), retention_now.second},
                      columns(4));
        return out;
      });
  for (int32_t s = 0; s < count; ++s) {
    for (const States* states : {&shift, &wkv4, &wkv7, &retention}) {
      const std::vector<float> left = states->get(s);
      outputs[static_cast<size_t>(s)].insert(outputs[static_cast<size_t>(s)].end(), left.begin(),
                                             left.end());
    }
  }
  return outputs;
}

TEST_P(RowLaw, RecurrencesHoweverCut) {
  const std::vector<int32_t> lengths = {75, 1, 34};
  Random random(3600);
  std::vector<Outputs> inputs(10);  // [input][sequence], a row after the other
  for (Outputs& input : inputs) {
    for (int32_t length : lengths) input.push_back(random.normals(length * kWide, 0.4f));
  }
  const Outputs want = recurrences(*baseline_, lengths, inputs, in_chunks(lengths, 1 << 20));
  for (const std::vector<float>& outputs : want) {
    for (float x : outputs) ASSERT_TRUE(std::isfinite(x)) << "the bytes of a former state leaked";
  }
  for (int32_t chunk : {1, 7, 64, 1 << 20}) {
    expect_same(recurrences(*device_, lengths, inputs, in_chunks(lengths, chunk)), want,
                "chunks of " + std::to_string(chunk));
  }
  expect_same(recurrences(*device_, lengths, inputs, one_by_one(lengths)), want, "one by one");
}

}  // namespace
}  // namespace trireme::contract
