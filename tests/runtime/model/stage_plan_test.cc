// Stages of every golden's model: each sublayer runs where it should, parameters and bytes add up
// to what the checkpoint holds, and meshes that do not fit are answered with those that would.
#include "runtime/model/stage_plan.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "runtime/model/families/families.h"
#include "runtime/model/model.h"

namespace trireme {
namespace {

const std::string kGoldens = TRIREME_SOURCE_DIR "/tests/golden/data/";

struct Loaded {
  std::string name;
  std::unique_ptr<Checkpoint> checkpoint;
  ModelSpec spec;
};

Loaded load(const std::string& name) {
  Loaded l;
  l.name = name;
  l.checkpoint = std::move(*open_checkpoint(kGoldens + name));
  l.spec = *read_model_spec(kGoldens + name, l.checkpoint.get());
  return l;
}

std::vector<Loaded> all_goldens() {
  std::vector<Loaded> all;
  for (const auto& entry : std::filesystem::directory_iterator(kGoldens)) {
    if (std::filesystem::exists(entry.path() / "expected.safetensors"))
      all.push_back(load(entry.path().filename()));
  }
  CHECK(all.size() > 20);
  return all;
}

uint64_t elements(const std::vector<int64_t>& shape) {
  uint64_t n = 1;
  for (const int64_t d : shape) n *= static_cast<uint64_t>(d);
  return n;
}

TEST(Parameters, AreThoseOfTheCheckpoint) {
  for (const Loaded& l : all_goldens()) {
    SCOPED_TRACE(l.name);
    const auto counts = count_parameters(l.spec);
    ASSERT_TRUE(counts.ok());
    const auto shapes = tensor_shapes(l.spec);
    ASSERT_TRUE(shapes.ok());
    uint64_t needed = 0, held = 0;
    for (const auto& [name, shape] : *shapes) needed += elements(shape);
    EXPECT_EQ(counts->total(), needed);
    for (const TensorInfo& info : l.checkpoint->tensors()) {
      // The first layer's v of RWKV-7 mixes with itself: files have it, nobody reads it.
      const bool unread = !shapes->contains(info.name);
      if (unread) {
        EXPECT_EQ(l.spec.family, "rwkv7") << info.name;
        continue;
      }
      held += elements(info.shape);
      EXPECT_EQ(elements(shapes->at(info.name)), elements(info.shape)) << info.name;
    }
    EXPECT_EQ(held, needed);
  }
}

TEST(Stages, EverySublayerRunsOnceAndSharedRowsAreStoredWhereTheyAreRead) {
  for (const Loaded& l : all_goldens()) {
    for (int stages = 1; stages <= static_cast<int>(l.spec.layers); ++stages) {
      SCOPED_TRACE(fmt::format("{} in {} stages", l.name, stages));
      const auto plans = plan_stages(l.spec, stages);
      ASSERT_TRUE(plans.ok());
      ASSERT_EQ(plans->size(), static_cast<size_t>(stages));
      uint32_t next = 0;
      std::vector<int> times(l.spec.sublayers.size(), 0);
      for (const StagePlan& plan : *plans) {
        EXPECT_EQ(plan.begin, next);
        EXPECT_LT(plan.begin, plan.end);
        next = plan.end;
        bool stored = false;
        for (const uint32_t i : plan.sublayers) {
          const SublayerKind kind = l.spec.sublayers[i].kind;
          stored |= kind == SublayerKind::kStoreSharedKv;
          EXPECT_TRUE(stored || kind != SublayerKind::kSharedAttention) << "reads unstored rows";
          if (kind != SublayerKind::kStoreSharedKv) {
            EXPECT_TRUE(i >= plan.begin && i < plan.end);
            ++times[i];
          }
        }
        const bool reads = std::any_of(
            plan.sublayers.begin(), plan.sublayers.end(),
            [&](uint32_t i) { return l.spec.sublayers[i].kind == SublayerKind::kSharedAttention; });
        EXPECT_EQ(stored, reads) << "stores for nobody";
        // A stage boundary lies between layers.
        EXPECT_TRUE(plan.end == l.spec.sublayers.size() ||
                    l.spec.sublayers[plan.end].layer != l.spec.sublayers[plan.end - 1].layer);
      }
      EXPECT_EQ(next, l.spec.sublayers.size());
      for (size_t i = 0; i < times.size(); ++i) {
        const bool stores = l.spec.sublayers[i].kind == SublayerKind::kStoreSharedKv;
        EXPECT_EQ(times[i], stores ? 0 : 1);
      }
    }
  }
}

TEST(Stages, BytesOfAllStagesAreTheModels) {
  for (const Loaded& l : all_goldens()) {
    const auto whole = weight_bytes(l.spec, l.checkpoint.get(), {}, {1, 1}, {0, 0});
    ASSERT_TRUE(whole.ok());
    for (int stages = 2; stages <= static_cast<int>(l.spec.layers); ++stages) {
      uint64_t sum = 0;
      for (int s = 0; s < stages; ++s)
        sum += *weight_bytes(l.spec, l.checkpoint.get(), {}, {stages, 1}, {s, 0});
      // A tied table is on the first stage and on the last.
      const uint64_t table = static_cast<uint64_t>(l.spec.vocab * l.spec.dim) * 4;
      EXPECT_EQ(sum, *whole + (l.spec.tied ? table : 0)) << l.name << " in " << stages;
    }
    EXPECT_EQ(*weight_bytes(l.spec, l.checkpoint.get(), {DType::kF32, {}}, {1, 1}, {0, 0}), *whole);
    EXPECT_LT(*weight_bytes(l.spec, l.checkpoint.get(), {DType::kBF16, {}}, {1, 1}, {0, 0}),
              *whole);
  }
}

TEST(Side, IsTheSharedRowsOrTheFirstValue) {
  const Loaded yoco = load("yoco-swa-tiny");  // 4 heads of 32 over 2 kv heads
  EXPECT_EQ(yoco.spec.sublayers[side_producer(yoco.spec)].kind, SublayerKind::kMakeSharedKv);
  EXPECT_EQ(side_cols(yoco.spec, 0, 1), 2 * 2 * 32);
  EXPECT_EQ(side_cols(yoco.spec, 1, 2), 2 * 32);
  EXPECT_EQ(side_cols(yoco.spec, 3, 4), 2 * 32) << "a kv head on two shards";
  const Loaded rwkv = load("rwkv7-three-heads");
  EXPECT_EQ(side_producer(rwkv.spec), 0u);
  EXPECT_EQ(side_cols(rwkv.spec, 0, 1), 192);
  EXPECT_EQ(side_cols(rwkv.spec, 2, 3), 64);
  const Loaded llama = load("llama-gqa");
  EXPECT_EQ(side_producer(llama.spec), llama.spec.sublayers.size());
  EXPECT_EQ(side_cols(llama.spec, 0, 1), 0);
}

TEST(CheckMesh, NamesWhatWouldFit) {
  const auto message = [](const std::string& name, Mesh mesh) {
    const Status s = check_mesh(load(name).spec, mesh);
    EXPECT_EQ(s.code(), StatusCode::kInvalidArgument);
    return s.message();
  };
  EXPECT_EQ(message("llama-gqa", {4, 1}),
            "pipeline_parallel_size 4 is more than the model's 3 layers; it can be 1 to 3");
  EXPECT_EQ(message("llama-gqa", {1, 4}),
            "tensor_parallel_size 4 does not divide the model's 6 attention heads; it can be 1, 3, "
            "6");
  EXPECT_EQ(message("rwkv7-three-heads", {1, 2}),
            "tensor_parallel_size 2 does not divide the model's 3 RWKV-7 heads; it can be 1, 3");
  EXPECT_EQ(message("yoco-gret-tiny", {1, 4}),
            "tensor_parallel_size 4 does not divide the model's 2 retention heads; it can be 1, 2");
  EXPECT_EQ(message("rwkv4-hf", {1, 49}),
            "tensor_parallel_size 49 is more than the model's 48 channels");
  EXPECT_TRUE(check_mesh(load("rwkv4-uneven").spec, {2, 5}).ok()) << "RWKV-4 cuts anywhere";
}

// The layout's classes are the same on every rank; the bytes of a stage's own sublayers only.
TEST(CacheLayout, CountsAlikeOnEveryRank) {
  for (const Loaded& l : all_goldens()) {
    SCOPED_TRACE(l.name);
    const auto plans = plan_stages(l.spec, 2);
    ASSERT_TRUE(plans.ok());
    const CacheLayout whole =
        cache_layout(l.spec, plan_stages(l.spec, 1)->front(), 0, 1, DType::kF32, 16);
    uint64_t bytes = 0;
    for (const StagePlan& plan : *plans) {
      const CacheLayout part = cache_layout(l.spec, plan, 0, 1, DType::kF32, 16);
      ASSERT_EQ(part.classes.size(), whole.classes.size());
      for (size_t c = 0; c < part.classes.size(); ++c) {
        EXPECT_EQ(part.classes[c].growth, whole.classes[c].growth);
        EXPECT_EQ(part.classes[c].window_tokens, whole.classes[c].window_tokens);
        EXPECT_EQ(part.slots.size(), whole.slots.size());
        bytes += part.classes[c].block_bytes;
      }
    }
    uint64_t all = 0, shared = 0;
    for (const SlotClass& c : whole.classes) all += c.block_bytes;
    for (uint32_t i = 0; i < l.spec.sublayers.size();
         ++i) {  // stored by two stages, where both read
      if (l.spec.sublayers[i].kind == SublayerKind::kStoreSharedKv &&
          std::count((*plans)[0].sublayers.begin(), (*plans)[0].sublayers.end(), i) == 1 &&
          std::count((*plans)[1].sublayers.begin(), (*plans)[1].sublayers.end(), i) == 1) {
        const HeadSpec& h = l.spec.sublayers[i].heads;
        shared =
            static_cast<uint64_t>(kv_bytes_per_token(h.kv_heads, h.head_dim, DType::kF32)) * 16;
      }
    }
    EXPECT_EQ(bytes, all + shared);
  }
}

}  // namespace
}  // namespace trireme
