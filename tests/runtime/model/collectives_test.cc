// A layer costs exactly two all-reduces, whatever the family; the embedding costs one more on the
// first stage. Counted by the communicators themselves while the goldens run on two shards.
#include <gtest/gtest.h>

#include "tests/support/thread_ranks.h"

namespace trireme::test {
namespace {

TEST(Collectives, TwoAllReducesALayerAndOneForTheEmbedding) {
  for (const std::string name :
       {"llama-mqa", "qwen3", "rwkv4-tiny", "rwkv7-tiny", "yoco-gret-tiny", "yoco-swa-tiny"}) {
    SCOPED_TRACE(name);
    for (const int stages : {1, 2}) {
      RankOptions options;
      options.mesh = {stages, 2};
      const std::vector<int32_t> tokens = {3, 1, 4, 1, 5};
      const auto body = [&](Rank& rank) -> Status {
        std::vector<BlockPool> pools;
        for (uint32_t total : rank.executor.blocks_total()) pools.emplace_back(total);
        SequenceBlocks blocks(rank.executor.layout());
        CHECK(blocks.advance(pools, 0, static_cast<uint32_t>(tokens.size())));
        const SequenceRun run{&blocks, 0, tokens, SequenceRun::Logits::kLast};
        const uint64_t before = rank.groups.shards->counts().all_reduces;
        const Status status = rank.executor.step(
            std::span(&run, 1), [](int64_t, TensorView) { return Status::ok_status(); });
        if (!status.ok()) return status;
        const auto layers = static_cast<uint64_t>(rank.model.stage().layers.count);
        const uint64_t embedding = rank.groups.first_stage() ? 1 : 0;
        EXPECT_EQ(rank.groups.shards->counts().all_reduces - before, 2 * layers + embedding);
        return status;
      };
      const Status status =
          run_ranks(TRIREME_SOURCE_DIR "/tests/golden/data/" + name, options, body);
      EXPECT_TRUE(status.ok()) << status.message();
    }
  }
}

}  // namespace
}  // namespace trireme::test
