// make_checked_device: every broken REQUIRES of ops.h ends the program and says which. Each case
// breaks one promise of a call that is otherwise right; the right call passes.
#include <functional>

#include "tests/contract/ops_cache.h"

namespace trireme::contract {
namespace {

class CheckedOpsDeathTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { testing::GTEST_FLAG(death_test_style) = "threadsafe"; }
  Mat mat(int64_t rows, int64_t cols, int64_t pad = 0) { return Mat(*device_, rows, cols, pad); }

  std::unique_ptr<Device> device_ = make_checked_device(make_ref_device());
  Ops& ops_ = device_->ops();
};

TEST_F(CheckedOpsDeathTest, Shapes) {
  Mat x = mat(3, 8), y = mat(3, 8), narrow = mat(3, 7), fewer = mat(2, 8);
  ops_.add(x.view(), y.view());
  EXPECT_DEATH(ops_.add(narrow.view(), y.view()), "add: x is \\[3, 7\\] and must be \\[3, 8\\]");
  EXPECT_DEATH(ops_.multiply(fewer.view(), y.view()), "multiply: x");
  EXPECT_DEATH(ops_.activate(Activation::kTanh, narrow.view(), y.view()), "activate: x");
  EXPECT_DEATH(ops_.swiglu(x.view(), narrow.view(), y.view()), "swiglu: up");
  Mat table = mat(3, 4), odd = mat(3, 3);
  ops_.rope(table.view(), RopeStyle::kHalves, 4, x.view());
  EXPECT_DEATH(ops_.rope(table.view(), RopeStyle::kHalves, 3, x.view()), "heads of 3");
  EXPECT_DEATH(ops_.rope(table.view(), RopeStyle::kHalves, 2, x.view()), "rotates 4 of 2");
  EXPECT_DEATH(ops_.rope(odd.view(), RopeStyle::kHalves, 4, x.view()), "rotates 3");
  Mat frequencies = mat(1, 3);
  const int32_t positions[3] = {};
  EXPECT_DEATH(ops_.rope_table(positions, 3, frequencies.view(), 1, table.view()),
               "rope_table: cos_sin is \\[3, 4\\] and must be \\[3, 6\\]");
}

TEST_F(CheckedOpsDeathTest, ViewsOfTensors) {
  Mat x = mat(3, 8), y = mat(3, 8);
  TensorView view = y.view();
  view.dtype = DType::kBF16;
  EXPECT_DEATH(ops_.add(x.view(), view), "bfloat16, not float32");
  view = y.view();
  view.row_stride = 7;
  EXPECT_DEATH(ops_.add(x.view(), view), "row_stride 7");
  view = y.view();
  view.data = nullptr;
  EXPECT_DEATH(ops_.add(x.view(), view), "no memory");
  view = y.view();
  view.place = Place::kCuda;
  EXPECT_DEATH(ops_.add(x.view(), view), "another device");
}

// Column ranges of one buffer are apart; what shares elements is not.
TEST_F(CheckedOpsDeathTest, Overlap) {
  Mat all = mat(4, 24);
  ops_.add(all.view().col_range(0, 8), all.view().col_range(8, 8));
  ops_.swiglu(all.view().col_range(0, 8), all.view().col_range(8, 8), all.view().col_range(8, 8));
  EXPECT_DEATH(ops_.add(all.view().col_range(0, 8), all.view().col_range(7, 8)), "overlaps");
  EXPECT_DEATH(ops_.add(all.view(), all.view()), "overlaps");
  NormArgs norm;
  ops_.norm(all.view(), norm, all.view());
  EXPECT_DEATH(ops_.norm(all.view().row_range(0, 2), norm, all.view().row_range(1, 2)), "overlaps");
  EXPECT_DEATH(
      ops_.activate(Activation::kSilu, all.view().row_range(0, 2), all.view().row_range(1, 2)),
      "overlaps");
}

TEST_F(CheckedOpsDeathTest, Norm) {
  Mat x = mat(2, 12), gain = mat(1, 5);
  NormArgs args;
  args.groups = 5;
  EXPECT_DEATH(ops_.norm(x.view(), args, x.view()), "12 columns in 5 groups");
  args.groups = 3;
  args.gain = gain.view();
  EXPECT_DEATH(ops_.norm(x.view(), args, x.view()), "norm: gain or bias");
}

TEST_F(CheckedOpsDeathTest, LinearAndEmbed) {
  Matrix w = device_->make_matrix(6, 8, DType::kBF16).take();
  Mat x = mat(2, 8), y = mat(2, 6), wrong = mat(2, 7), bias = mat(1, 5);
  ops_.linear(x.view(), w.view(), y.view());
  EXPECT_DEATH(ops_.linear(wrong.view(), w.view(), y.view()), "linear: x");
  EXPECT_DEATH(ops_.linear(x.view(), w.view(), wrong.view()), "linear: y");
  WeightView with_bias = w.view();
  with_bias.bias = bias.view();
  EXPECT_DEATH(ops_.linear(x.view(), with_bias, y.view()), "bias of a weight");
  const int32_t ids[2] = {0, 1};
  EXPECT_DEATH(ops_.embed(w.view(), ids, 2, 0, 1, y.view()), "embed: y");
  EXPECT_DEATH(device_->write_rows(w, 5, ConstTensorView(x.view())), "write_rows: rows from 5");
  EXPECT_DEATH(device_->write_rows(w, 0, ConstTensorView(y.view())), "6 columns into 8");
  EXPECT_DEATH((void)device_->make_matrix(1, 1, {WeightType::kInt8, 48}), "make_matrix");
}

TEST_F(CheckedOpsDeathTest, GatherRows) {
  Mat x = mat(4, 3), y = mat(2, 3);
  const int32_t right[] = {1, 3}, twice[] = {1, 1}, beyond[] = {1, 4};
  ops_.gather_rows(x.view(), right, 2, y.view());
  EXPECT_DEATH(ops_.gather_rows(x.view(), twice, 2, y.view()), "ascend strictly");
  EXPECT_DEATH(ops_.gather_rows(x.view(), beyond, 2, y.view()), "index 1 is 4 of 4");
  const int32_t three[] = {0, 1, 2};
  EXPECT_DEATH(ops_.gather_rows(x.view(), three, 3, y.view()), "3 rows into 2");
}

// offsets and positions, seen through an op with a state and through attention.
TEST_F(CheckedOpsDeathTest, Runs) {
  Mat x = mat(3, 4), mix = mat(1, 4), out = mat(3, 4);
  States states(*device_, 2, 4);
  const auto shift = [&](std::vector<int32_t> offsets, std::vector<int32_t> positions) {
    const Ragged rows{offsets.data(), positions.data(), 2, 3};
    ops_.shift_mix(x.view(), rows, states.rows(), mix.view(), out.view());
  };
  shift({0, 1, 3}, {9, 0, 1});
  EXPECT_DEATH(shift({1, 2, 3}, {9, 0, 1}), "offsets go from 1");
  EXPECT_DEATH(shift({0, 1, 2}, {9, 0, 1}), "offsets go from 0 to 2");
  EXPECT_DEATH(shift({0, 4, 3}, {9, 0, 1}), "descend");
  EXPECT_DEATH(shift({0, 1, 3}, {9, 0, 2}), "positions of run 1 go from 0 to 2");
  EXPECT_DEATH(shift({0, 1, 3}, {-1, 0, 1}), "row 0");
  const Batch two_rows(*device_, std::vector<RunSpec>{{0, 2}});
  EXPECT_DEATH(ops_.shift_mix(x.view(), two_rows.ragged(), states.rows(), mix.view(), out.view()),
               "the runs have 2 rows, the tensor 3");
}

TEST_F(CheckedOpsDeathTest, StatesOfSequences) {
  Mat x = mat(2, 4), mix = mat(1, 4), out = mat(2, 4);
  States states(*device_, 2, 4);
  const Batch batch(*device_, std::vector<RunSpec>{{3, 1}, {5, 1}});
  const auto shift = [&](const StateRows& rows) {
    ops_.shift_mix(x.view(), batch.ragged(), rows, mix.view(), out.view());
  };
  shift(states.rows());
  std::byte* twice[] = {states.base(0), states.base(0)};
  EXPECT_DEATH(shift({twice, states.rows().offset}), "two sequences share a state");
  std::byte* none[] = {states.base(0), nullptr};
  EXPECT_DEATH(shift({none, states.rows().offset}), "sequence 1 has no state");
  EXPECT_DEATH(shift({states.rows().base, 32}), "offset 32");
}

class CheckedCacheDeathTest : public CheckedOpsDeathTest {
 protected:
  const CacheSpec spec_{1, 8, 16, 20, DType::kF32};
  Cache cache_{*device_, spec_, {48, 48}, 1};
  KvView view_ = cache_.view({0, 1}, {40, 0});
  Mat kv_ = mat(2, 8), q_ = mat(2, 16), out_ = mat(2, 16);
  const Batch batch_{*device_, std::vector<RunSpec>{{40, 1}, {0, 1}}};
};

TEST_F(CheckedCacheDeathTest, Blocks) {
  ops_.store_kv(kv_.view(), kv_.view(), batch_.ragged(), view_);
  const Batch beyond(*device_, std::vector<RunSpec>{{64, 1}, {0, 1}});
  EXPECT_DEATH(ops_.store_kv(kv_.view(), kv_.view(), beyond.ragged(), view_), "entries 3 to 3");
  const Batch too_early(*device_, std::vector<RunSpec>{{33, 1}, {0, 1}});
  EXPECT_DEATH(ops_.attend(q_.view(), too_early.ragged(), view_, 1, out_.view()),
               "positions 14 to 33 of sequence 0 need entries -1 to 1");
  std::vector<int32_t> missing(static_cast<size_t>(2 * view_.table_stride), -1);
  KvView view = view_;
  view.block_table = missing.data();
  EXPECT_DEATH(ops_.store_kv(kv_.view(), kv_.view(), batch_.ragged(), view), "no block at entry");
  std::fill(missing.begin(), missing.end(), 0);
  const Batch same_slot(*device_, std::vector<RunSpec>{{40, 1}, {8, 1}});
  EXPECT_DEATH(ops_.store_kv(kv_.view(), kv_.view(), same_slot.ragged(), view),
               "two rows go to block 0");
}

TEST_F(CheckedCacheDeathTest, Geometry) {
  const auto attend_with = [&](const std::function<void(KvView&)>& change) {
    KvView view = view_;
    change(view);
    ops_.attend(q_.view(), batch_.ragged(), view, 1, out_.view());
  };
  EXPECT_DEATH(attend_with([](KvView& v) { v.kv_heads = 3, v.block_stride *= 3; }),
               "16 columns for 3 kv heads");
  EXPECT_DEATH(attend_with([](KvView& v) { v.block_stride = 100; }), "every 100");
  EXPECT_DEATH(attend_with([](KvView& v) { v.window_tokens = -1; }), "window_tokens -1");
  EXPECT_DEATH(attend_with([](KvView& v) { v.dtype = DType::kI8; }), "a cache of int8");
  const Batch backwards(*device_, std::vector<std::vector<int32_t>>{{40, 39}});
  EXPECT_DEATH(ops_.attend(q_.view(), backwards.ragged(), view_, 1, out_.view()),
               "positions of run 0 go from 40 to 39");
  EXPECT_DEATH(ops_.attend(q_.view(), batch_.ragged(), view_, 1, q_.view()), "overlaps");
}

TEST_F(CheckedOpsDeathTest, Recurrences) {
  const Batch batch(*device_, std::vector<RunSpec>{{0, 2}});
  States states(*device_, 1, 4096);
  Mat x = mat(2, 8), out = mat(2, 8), one = mat(1, 8), narrow = mat(2, 7);
  Wkv4Args four;
  four.k = four.v = four.r = x.view();
  four.w = four.u = one.view();
  ops_.wkv4(four, batch.ragged(), states.rows(), out.view());
  four.r = narrow.view();
  EXPECT_DEATH(ops_.wkv4(four, batch.ragged(), states.rows(), out.view()), "wkv4: k, v, r or out");

  Wkv7Args seven;
  seven.r = seven.w = seven.k = seven.v = seven.a = seven.b = x.view();
  seven.heads = 2, seven.head_dim = 4;
  ops_.wkv7(seven, batch.ragged(), states.rows(), out.view());
  seven.head_dim = 5;
  EXPECT_DEATH(ops_.wkv7(seven, batch.ragged(), states.rows(), out.view()), "wkv7: r");

  Mat gate = mat(2, 1);
  RetentionArgs kept;
  kept.q = kept.k = kept.v = x.view();
  kept.gate = gate.view();
  kept.heads = 1, kept.head_dim = 8;
  ops_.retention(kept, batch.ragged(), states.rows(), out.view());
  kept.heads = 2, kept.head_dim = 4;
  EXPECT_DEATH(ops_.retention(kept, batch.ragged(), states.rows(), out.view()), "retention: gate");

  Mat a = mat(2, 8), b = mat(2, 8), k = mat(2, 8), v = mat(2, 8), w = mat(2, 8);
  Wkv7PrepareArgs prepare;
  prepare.w = w.view(), prepare.a = a.view(), prepare.b = b.view();
  prepare.k = k.view(), prepare.v = v.view();
  prepare.k_k = prepare.k_a = one.view();
  prepare.head_dim = 4;
  ops_.wkv7_prepare(prepare);
  prepare.v_first = x.view();
  EXPECT_DEATH(ops_.wkv7_prepare(prepare), "v_gate");
  prepare.v_gate = x.view();
  ops_.wkv7_prepare(prepare);
  prepare.b = a.view();
  EXPECT_DEATH(ops_.wkv7_prepare(prepare), "overlaps");

  Wkv7FinishArgs finish;
  finish.r = finish.k = finish.v = finish.g = x.view();
  finish.r_k = one.view();
  finish.head_dim = 3;
  EXPECT_DEATH(ops_.wkv7_finish(finish, out.view()), "heads of 3");

  Wkv7MixArgs mix;
  prepare.b = b.view();
  mix.prepare = prepare;
  mix.r = mix.g = x.view(), mix.r_k = one.view();
  mix.norm.groups = 2;
  ops_.wkv7_mix(mix, batch.ragged(), states.rows(), out.view());
  EXPECT_DEATH(ops_.wkv7_mix(mix, batch.ragged(), states.rows(), x.view()), "overlaps");
  mix.norm.groups = 1;
  EXPECT_DEATH(ops_.wkv7_mix(mix, batch.ragged(), states.rows(), out.view()), "wkv7: r");
  mix.norm.groups = 2;
  mix.g = k.view();
  EXPECT_DEATH(ops_.wkv7_mix(mix, batch.ragged(), states.rows(), out.view()), "wkv7_mix");
}

}  // namespace
}  // namespace trireme::contract
