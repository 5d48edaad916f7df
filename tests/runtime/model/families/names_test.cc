// The same model under other names and in other orientations gives the same logits, byte for byte:
// unilm's flat YOCO names, RWKV-7's low-rank matrices either way up, flash-linear-attention's older
// fused x_x. And checkpoints of RWKV versions that are not ours are refused by name.
#include <algorithm>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/support/edited_model.h"
#include "tests/support/thread_ranks.h"

namespace trireme::test {
namespace {

std::string golden(const std::string& name) {
  return std::string(TRIREME_SOURCE_DIR "/tests/golden/data/") + name;
}

std::vector<float> logits_of(const std::string& path, Mesh mesh = {1, 1}) {
  std::vector<int32_t> tokens;
  for (int32_t t = 0; t < 20; ++t) tokens.push_back(7 * t % 50);
  RankOptions options;
  options.mesh = mesh;
  options.tokens_max = 32;
  options.rows_max = 32;
  const auto logits = score_sequences(path, options, {tokens}, 0);
  CHECK(logits.ok()) << logits.status().message();
  return (*logits)[0];
}

EditedTensors tensors_of(const std::string& name) {
  auto tensors = read_tensors(golden(name));
  CHECK(tensors.ok()) << tensors.status().message();
  return tensors.take();
}

// The golden's config, or null where it has none.
Json config_of(const std::string& name) {
  const auto config = read_json_file(golden(name) + "/config.json");
  return config.ok() ? *config : Json();
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
}

std::string unilm_name(std::string name) {
  const std::pair<const char*, const char*> kRules[] = {
      {"model.embeddings.weight", "embed_tokens.weight"},
      {"model.norm.", "layer_norm."},
      {"lm_head.weight", "output_projection.weight"},
      {"model.self_layers.", "self_decoder.layers."},
      {"model.cross_layers.", "cross_decoder.layers."},
      {"model.shared_kv_builder.kv_norm", "cross_decoder.kv_layer_norm"},
      {"model.shared_kv_builder.", "cross_decoder."},
      {".attn_norm.", ".mixer_layer_norm."},
      {".mlp_norm.", ".final_layer_norm."},
      {".attn.gk_proj.", ".mixer.gt_proj."},
      {".attn.o_proj.", ".mixer.out_proj."},
      {".attn.", ".mixer."},
      {".mlp.gate_proj.", ".ffn.fc1."},
      {".mlp.up_proj.", ".ffn.gate."},
      {".mlp.down_proj.", ".ffn.fc2."},
  };
  for (const auto& [from, to] : kRules) replace_all(name, from, to);
  return name;
}

TEST(Names, UnilmsYoco) {
  for (const std::string name : {"yoco-gret-tiny", "yoco-swa-tiny"}) {
    EditedTensors renamed;
    for (auto& [key, tensor] : tensors_of(name)) {
      EXPECT_NE(unilm_name(key), key);
      renamed[unilm_name(key)] = tensor;
    }
    const TempFolder folder;
    ASSERT_TRUE(write_model(folder.path(), config_of(name), renamed).ok());
    EXPECT_EQ(logits_of(folder.path()), logits_of(golden(name))) << name;
    EXPECT_EQ(logits_of(folder.path(), {2, 2}), logits_of(golden(name), {2, 2})) << name;
  }
}

// BlinkDL has [dim, rank] and [rank, dim]; the hub has them the other way round. A file may have
// either under BlinkDL's names: its shapes tell.
TEST(Names, LowRankMatricesEitherWayUp) {
  for (const std::string name : {"rwkv7-tiny", "rwkv7-three-heads", "rwkv7-hub"}) {
    EditedTensors flipped = tensors_of(name);
    int count = 0;
    for (auto& [key, tensor] : flipped) {
      const bool blink = key.size() > 3 && key.find(".att.") != std::string::npos &&
                         std::string("wavg").find(key[key.size() - 2]) != std::string::npos &&
                         (key.back() == '1' || key.back() == '2') && key[key.size() - 3] == '.';
      const bool hub = key.find("_lora.lora.") != std::string::npos && key.ends_with(".weight");
      if (!blink && !hub) continue;
      while (tensor.shape.size() > 2) tensor.shape.erase(tensor.shape.begin());
      tensor = transposed(tensor);
      ++count;
    }
    EXPECT_GE(count, 14) << name;
    const TempFolder folder;
    ASSERT_TRUE(write_model(folder.path(), config_of(name), flipped).ok());
    EXPECT_EQ(logits_of(folder.path()), logits_of(golden(name))) << name;
    EXPECT_EQ(logits_of(folder.path(), {1, name == "rwkv7-three-heads" ? 3 : 2}),
              logits_of(golden(name), {1, name == "rwkv7-three-heads" ? 3 : 2}))
        << name;
  }
}

// Early checkpoints of flash-linear-attention have one x_x [6, dim] for r, w, k, v, a, g.
TEST(Names, FusedTokenShift) {
  EditedTensors tensors = tensors_of("rwkv7-hub");
  for (int layer = 0; layer < 2; ++layer) {
    const std::string attn = fmt::format("model.layers.{}.attn.", layer);
    EditedTensor fused;
    for (const char* x : {"x_r", "x_w", "x_k", "x_v", "x_a", "x_g"}) {
      auto part = tensors.extract(attn + x);
      ASSERT_FALSE(part.empty()) << attn << x;
      fused.values.insert(fused.values.end(), part.mapped().values.begin(),
                          part.mapped().values.end());
    }
    fused.shape = {6, static_cast<int64_t>(fused.values.size()) / 6};
    tensors[attn + "x_x"] = fused;
  }
  const TempFolder folder;
  ASSERT_TRUE(write_model(folder.path(), config_of("rwkv7-hub"), tensors).ok());
  EXPECT_EQ(logits_of(folder.path()), logits_of(golden("rwkv7-hub")));
}

// Low-rank sizes of released configs are wrong at times: the file decides.
TEST(Names, LowRankSizesComeFromTheFile) {
  Json config = config_of("rwkv7-hub");
  for (const char* key :
       {"decay_low_rank_dim", "a_low_rank_dim", "v_low_rank_dim", "gate_low_rank_dim"})
    config.as_object()[key] = 99;
  const TempFolder folder;
  ASSERT_TRUE(write_model(folder.path(), config, tensors_of("rwkv7-hub")).ok());
  EXPECT_EQ(logits_of(folder.path()), logits_of(golden("rwkv7-hub")));
}

TEST(Names, TiedHeadOnAStageOfItsOwn) {
  const auto whole = logits_of(golden("llama-tied"));
  EXPECT_EQ(logits_of(golden("llama-tied"), {2, 1}), whole);
}

// ---- refusals ----

Status status_of(const std::string& path) {
  const auto checkpoint = open_checkpoint(path);
  if (!checkpoint.ok()) return checkpoint.status();
  return read_model_spec(path, checkpoint->get()).status();
}

TEST(Refusals, OtherVersionsOfRwkv) {
  const auto with = [](const std::string& extra, const std::string& without) {
    EditedTensors tensors = tensors_of("rwkv7-tiny");
    std::erase_if(tensors, [&](const auto& entry) {
      return !without.empty() && entry.first.find(without) != std::string::npos;
    });
    if (!extra.empty()) tensors[extra] = {{2, 2}, {1, 2, 3, 4}};
    const TempFolder folder;
    CHECK(write_model(folder.path(), Json(), tensors).ok());
    return status_of(folder.path() + "/model.safetensors");
  };
  EXPECT_TRUE(with("", "").ok());
  const std::tuple<const char*, const char*, const char*> kCases[] = {
      {"blocks.1.ffn.s_emb.weight", "", "RWKV-7a (DeepEmbed)"},
      {"blocks.0.ffn.s1", "", "RWKV-7a (DeepEmbed)"},
      {"blocks.2.qkv.qq.weight", "", "RWKV-7b (DEA)"},
      {"blocks.0.att.time_maa_x", ".att.r_k", "RWKV-6"},
      {"blocks.0.att.time_decay", ".att.r_k", "RWKV-5 or RWKV-6"},
  };
  for (const auto& [extra, without, sentence] : kCases) {
    const Status status = with(extra, without);
    EXPECT_EQ(status.code(), StatusCode::kUnimplemented) << extra;
    EXPECT_NE(status.message().find(sentence), std::string::npos) << status.message();
    EXPECT_NE(status.message().find("Trireme reads RWKV-4 and RWKV-7"), std::string::npos);
  }
}

TEST(Refusals, TensorsThatAreNoModel) {
  const TempFolder folder;
  ASSERT_TRUE(write_model(folder.path(), Json(), {{"weight", {{2}, {1, 2}}}}).ok());
  const Status status = status_of(folder.path() + "/model.safetensors");
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("what model is it?"), std::string::npos) << status.message();
}

TEST(Refusals, MissingAndMisshapenTensors) {
  const auto load = [](EditedTensors tensors) {
    const TempFolder folder;
    CHECK(write_model(folder.path(), config_of("llama-gqa"), tensors).ok());
    RankOptions options;
    return run_ranks(folder.path(), options, [](Rank&) { return Status::ok_status(); });
  };
  EditedTensors missing = tensors_of("llama-gqa");
  missing.erase("model.layers.1.mlp.up_proj.weight");
  Status status = load(missing);
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  EXPECT_NE(status.message().find("1 of 30 tensors that a llama model needs are missing: "
                                  "'model.layers.1.mlp.up_proj.weight'"),
            std::string::npos)
      << status.message();
  for (const char* x : {"0", "1", "2"})
    missing.erase(fmt::format("model.layers.{}.self_attn.q_proj.weight", x));
  EXPECT_NE(load(missing).message().find("4 of 30"), std::string::npos) << load(missing).message();

  EditedTensors misshapen = tensors_of("llama-gqa");
  misshapen["model.norm.weight"] = {{24}, std::vector<float>(24, 1)};
  status = load(misshapen);
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("'model.norm.weight'"), std::string::npos) << status.message();
  EXPECT_NE(status.message().find("[24]"), std::string::npos) << status.message();
}

TEST(Refusals, ALowRankMatrixOfNeitherShape) {
  EditedTensors tensors = tensors_of("rwkv7-tiny");
  tensors["blocks.1.att.w1"] = {{5, 7}, std::vector<float>(35, 1)};
  const TempFolder folder;
  ASSERT_TRUE(write_model(folder.path(), Json(), tensors).ok());
  const Status status = status_of(folder.path() + "/model.safetensors");
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("'blocks.1.att.w1' has shape [5, 7]"), std::string::npos)
      << status.message();
}

// Vocabularies that no mesh divides are padded, and padding never wins: the logits of every mesh
// have exactly the vocabulary's columns and agree.
TEST(Vocabulary, PaddingNeverShows) {
  const auto whole = logits_of(golden("llama-mha"));
  EXPECT_EQ(whole.size(), 20u * 131);
  for (const int shards : {2, 3, 6}) {
    const auto sharded = logits_of(golden("llama-mha"), {1, shards});
    ASSERT_EQ(sharded.size(), whole.size());
    for (size_t i = 0; i < whole.size(); ++i) ASSERT_NEAR(sharded[i], whole[i], 1e-4);
  }
}

}  // namespace
}  // namespace trireme::test
