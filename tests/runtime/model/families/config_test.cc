// What a config.json may say, family by family: each field that would change the results and is not
// supported is refused with its own sentence, each absent field gets its model type's default.
#include <fstream>

#include <boost/json/serialize.hpp>
#include <gtest/gtest.h>

#include "runtime/model/families/families.h"
#include "runtime/model/stage_plan.h"
#include "tests/support/edited_model.h"

namespace trireme::test {
namespace {

std::string golden(const std::string& name) {
  return std::string(TRIREME_SOURCE_DIR "/tests/golden/data/") + name;
}

Json parse(std::string_view text) {
  const auto json = parse_json(text);
  CHECK(json.ok()) << text << ": " << json.status().message();
  return *json;
}

// `edits` over the golden's config; a value of "absent" removes the field.
Json edited_config(const std::string& name, std::string_view edits) {
  Json config = *read_json_file(golden(name) + "/config.json");
  const Json changes = parse(edits);
  for (const auto& [key, value] : changes.get_object()) {
    if (value == "absent") {
      config.as_object().erase(key);
    } else {
      config.as_object()[key] = value;
    }
  }
  return config;
}

Result<ModelSpec> spec_of(const Json& config) {
  const TempFolder folder;
  std::ofstream(folder.path() + "/config.json") << boost::json::serialize(config);
  return read_model_spec(folder.path(), nullptr);
}

ModelSpec good_spec(const std::string& name, std::string_view edits) {
  const auto spec = spec_of(edited_config(name, edits));
  CHECK(spec.ok()) << edits << ": " << spec.status().message();
  return *spec;
}

struct Refusal {
  const char* golden;
  const char* edits;
  const char* sentence;  // the end of it, after "<path>/config.json: "
  StatusCode code = StatusCode::kUnimplemented;
};

constexpr StatusCode kInvalid = StatusCode::kInvalidArgument;

const Refusal kRefusals[] = {
    // What model it is.
    {"qwen3", R"({"model_type": "gpt2"})",
     "model_type 'gpt2' is not supported; Trireme reads llama, mistral, qwen2, qwen3, rwkv (4), "
     "rwkv7 and yoco"},
    {"qwen3", R"({"model_type": "qwen3_moe"})", "model_type 'qwen3_moe' is not supported"},
    {"qwen3", R"({"model_type": "absent"})", "field 'model_type' is missing", kInvalid},
    {"qwen3", R"({"model_type": 3})", "field 'model_type' is a integer, expected a string",
     kInvalid},
    {"qwen3", R"({"quantization_config": {"quant_method": "bitsandbytes"}})",
     "field 'quant_method' is 'bitsandbytes'; what is read is gptq, awq"},
    // GQA: what would change the results.
    {"qwen3", R"({"attn_logit_softcapping": 50.0})",
     "field 'attn_logit_softcapping': soft-capping of attention scores is not supported"},
    {"qwen3", R"({"final_logit_softcapping": 30.0})",
     "field 'final_logit_softcapping': soft-capping of logits is not supported"},
    {"qwen3", R"({"num_experts": 8})",
     "field 'num_experts': a mixture of experts is not supported"},
    {"qwen3", R"({"num_local_experts": 8})",
     "field 'num_local_experts': a mixture of experts is not supported"},
    {"qwen3", R"({"dual_chunk_attention_config": {}})",
     "field 'dual_chunk_attention_config': dual chunk attention is not supported"},
    {"qwen3", R"({"attention_sinks": true})",
     "field 'attention_sinks': attention sinks is not supported"},
    {"qwen3", R"({"hidden_act": "gelu"})",
     "field 'hidden_act': 'gelu' is not supported, only silu"},
    {"llama-gqa", R"({"sliding_window": 4096})",
     "field 'sliding_window': a sliding window in this model_type is not supported"},
    {"qwen2", R"({"use_sliding_window": true, "layer_types": ["full_attention", "chunked"]})",
     "field 'layer_types': 'chunked' is not supported, only full_attention and sliding_attention"},
    {"qwen2", R"({"layer_types": ["full_attention", 7]})",
     "field 'layer_types': '' is not supported"},
    {"qwen2", R"({"layer_types": ["full_attention"]})",
     "field 'layer_types' must be a list with one entry per layer", kInvalid},
    {"qwen2", R"({"layer_types": "full_attention"})",
     "field 'layer_types' must be a list with one entry per layer", kInvalid},
    // GQA: sizes.
    {"llama-gqa", R"({"hidden_size": "absent"})", "field 'hidden_size' is missing", kInvalid},
    {"llama-gqa", R"({"hidden_size": null})", "field 'hidden_size' is missing", kInvalid},
    {"llama-gqa", R"({"hidden_size": "48"})",
     "field 'hidden_size' is a string, expected an integer", kInvalid},
    {"llama-gqa", R"({"hidden_size": 48.5})",
     "field 'hidden_size' is a number, expected an integer", kInvalid},
    {"llama-gqa", R"({"hidden_size": 0})", "field 'hidden_size' is 0, expected 1 to 2147483647",
     kInvalid},
    {"llama-gqa", R"({"vocab_size": -5})", "field 'vocab_size' is -5", kInvalid},
    {"llama-gqa", R"({"intermediate_size": 1e18})", "field 'intermediate_size' is a number",
     kInvalid},
    {"llama-gqa", R"({"intermediate_size": "absent"})", "field 'intermediate_size' is missing",
     kInvalid},
    {"llama-gqa", R"({"num_attention_heads": "absent"})", "field 'num_attention_heads' is missing",
     kInvalid},
    {"llama-gqa", R"({"num_key_value_heads": 4})",
     "num_attention_heads 6 is not a multiple of num_key_value_heads 4", kInvalid},
    {"llama-gqa", R"({"num_hidden_layers": 2000000000})",
     "field 'num_hidden_layers' is 2000000000, expected 1 to 100000", kInvalid},
    {"llama-gqa", R"({"attention_bias": "yes"})",
     "field 'attention_bias' is a string, expected true or false", kInvalid},
    {"llama-gqa", R"({"rms_norm_eps": "tiny"})",
     "field 'rms_norm_eps' is a string, expected a number", kInvalid},
    {"llama-gqa", R"({"rms_norm_eps": -1})", "field 'rms_norm_eps' is -1", kInvalid},
    {"llama-gqa", R"({"torch_dtype": 16})", "field 'torch_dtype' is a integer, expected a string",
     kInvalid},
    // Rope.
    {"llama-gqa", R"({"rope_scaling": {"rope_type": "longrope", "factor": 4.0}})",
     "rope_type 'longrope' is not supported; Trireme has default, linear, dynamic, yarn, llama3"},
    {"llama-gqa", R"({"rope_scaling": {"type": "su", "factor": 4.0}})",
     "rope_type 'su' is not supported"},
    {"llama-gqa", R"({"rope_scaling": {"type": "longrope", "short_factor": [1.0]}})",
     "rope_scaling: field 'short_factor' is not known, and guessing what it means could silently "
     "change the results"},
    {"qwen2", R"({"rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}})",
     "rope_scaling: field 'mrope_section' is not known"},
    {"llama-gqa", R"({"rope_scaling": "linear"})", "rope_scaling: is a string, expected an object",
     kInvalid},
    {"llama-gqa", R"({"rope_scaling": {"type": "linear", "factor": 0.5}})",
     "rope_scaling: field 'factor' is 0.5, expected 1 to", kInvalid},
    {"llama-gqa",
     R"({"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0,
         "high_freq_factor": 4.0, "original_max_position_embeddings": 64}})",
     "high_freq_factor must be greater than low_freq_factor", kInvalid},
    {"llama-gqa", R"({"rope_theta": "big"})", "field 'rope_theta' is a string, expected a number",
     kInvalid},
    {"llama-gqa", R"({"partial_rotary_factor": 1.5})",
     "field 'partial_rotary_factor' is 1.5, expected", kInvalid},
    // YOCO.
    {"yoco-gret-tiny", R"({"hidden_act": "gelu"})",
     "field 'hidden_act': 'gelu' is not supported, only swish"},
    {"yoco-gret-tiny", R"({"num_self_decoder_layers": 4})",
     "num_self_decoder_layers must be less than num_hidden_layers", kInvalid},
    {"yoco-gret-tiny", R"({"num_hidden_layers": 1})",
     "field 'num_hidden_layers' is 1, expected 2 to 100000", kInvalid},
    {"yoco-gret-tiny", R"({"self_decoder_attn": {"type": "gated_deltanet", "num_heads": 2}})",
     "self_decoder_attn: type 'gated_deltanet' is not supported, only gated_retention and swa"},
    {"yoco-gret-tiny", R"({"self_decoder_attn": {"num_heads": 2}})",
     "self_decoder_attn: type 'gated_deltanet' is not supported"},
    {"yoco-gret-tiny",
     R"({"self_decoder_attn": {"type": "gated_retention", "num_heads": 2, "expand_v": 2}})",
     "self_decoder_attn: field 'expand_v' is not known"},
    {"yoco-gret-tiny",
     R"({"self_decoder_attn": {"type": "gated_retention", "num_heads": 4, "num_kv_heads": 2}})",
     "num_kv_heads other than num_heads is not supported in the self-decoder"},
    {"yoco-gret-tiny", R"({"self_decoder_attn": {"type": "gated_retention", "num_heads": 3}})",
     "num_heads 3 does not divide hidden_size 128", kInvalid},
    {"yoco-gret-tiny", R"({"self_decoder_attn": {"type": "gated_retention", "num_heads": 128}})",
     "the head dimension must be even", kInvalid},
    {"yoco-gret-tiny",
     R"({"self_decoder_attn": {"type": "gated_retention", "num_heads": 2, "qk_norm": true}})",
     "self_decoder_attn: field 'qk_norm': a norm of queries and keys is not supported"},
    {"yoco-swa-tiny", R"({"self_decoder_attn": {"type": "swa", "num_heads": 2}})",
     "self_decoder_attn: field 'window_size' is missing", kInvalid},
    {"yoco-gret-tiny", R"({"cross_decoder_attn": {"num_heads": 4, "window_size": 7}})",
     "cross_decoder_attn: field 'window_size' is not known"},
    {"yoco-gret-tiny", R"({"cross_decoder_attn": {"num_heads": 4, "num_kv_heads": 3}})",
     "cross_decoder_attn: num_heads 4 is not a multiple of num_kv_heads 3", kInvalid},
    {"yoco-gret-tiny", R"({"cross_decoder_attn": {"num_heads": 4, "qkv_bias": true}})",
     "cross_decoder_attn: field 'qkv_bias': a bias of the projections is not supported"},
    {"yoco-gret-tiny", R"({"cross_decoder_attn": {"num_heads": 4, "rope_inv_freq": "ntk"}})",
     "rope_inv_freq 'ntk' is not supported, only 'yoco' and 'fla'"},
    {"yoco-gret-tiny", R"({"cross_decoder_attn": "absent"})",
     "cross_decoder_attn: field 'num_heads' is missing", kInvalid},
    // RWKV as Hugging Face has it.
    {"rwkv7-hub", R"({"hidden_act": "relu"})",
     "field 'hidden_act': 'relu' is not supported, only sqrelu"},
    {"rwkv7-hub", R"({"norm_first": false})", "field 'norm_first': false is not supported"},
    {"rwkv7-hub", R"({"norm_bias": false})", "field 'norm_bias': false is not supported"},
    {"rwkv7-hub", R"({"attn": {"layers": [1]}})",
     "field 'attn': a hybrid of RWKV-7 and attention is not supported"},
    {"rwkv7-hub", R"({"num_heads": 3})", "num_heads 3 x head_dim 64 is not hidden_size 128",
     kInvalid},
    {"rwkv7-hub", R"({"hidden_size": 100, "num_heads": "absent"})",
     "num_heads 1 x head_dim 64 is not hidden_size 100", kInvalid},
    {"rwkv7-hub", R"({"hidden_ratio": "4x"})",
     "field 'hidden_ratio' is a string, expected a number", kInvalid},
    {"rwkv7-hub", R"({"vocab_size": "absent"})", "field 'vocab_size' is missing", kInvalid},
    {"rwkv4-hf", R"({"layer_norm_epsilon": 5})", "field 'layer_norm_epsilon' is 5, expected",
     kInvalid},
};

TEST(Config, WhatIsNotSupportedIsRefusedWithItsSentence) {
  for (const Refusal& r : kRefusals) {
    SCOPED_TRACE(std::string(r.golden) + " " + r.edits);
    const auto spec = spec_of(edited_config(r.golden, r.edits));
    ASSERT_FALSE(spec.ok());
    EXPECT_EQ(spec.status().code(), r.code);
    const std::string& message = spec.status().message();
    EXPECT_NE(message.find("/config.json: "), std::string::npos) << message;
    EXPECT_NE(message.find(r.sentence), std::string::npos) << message;
  }
}

TEST(Config, EveryGoldenAsItIsIsAccepted) {
  for (const Refusal& r : kRefusals) (void)good_spec(r.golden, "{}");
}

TEST(Config, WhatIsSwitchedOffIsNotRefused) {
  (void)good_spec("qwen3", R"({"quantization_config": null, "num_experts": 0,
                               "attention_sinks": false, "final_logit_softcapping": null})");
  (void)good_spec("llama-gqa", R"({"sliding_window": null, "rope_scaling": null,
                                   "hidden_act": "swish", "rope_theta": 10000})");
}

TEST(Config, AFileThatIsNoObject) {
  EXPECT_EQ(spec_of(Json(JsonArray{1})).status().code(), kInvalid);
  const TempFolder folder;
  EXPECT_EQ(read_model_spec(folder.path(), nullptr).status().code(), StatusCode::kNotFound);
  std::ofstream(folder.path() + "/config.json") << "{\"model_type\": ";
  const auto broken = read_model_spec(folder.path(), nullptr);
  ASSERT_FALSE(broken.ok());
  EXPECT_NE(broken.status().message().find("config.json"), std::string::npos);
}

// ---- defaults ----

std::vector<uint32_t> windows_of(const ModelSpec& spec) {
  std::vector<uint32_t> windows;
  for (const SublayerSpec& sub : spec.sublayers) {
    if (sub.kind == SublayerKind::kAttention) windows.push_back(sub.heads.window_tokens);
  }
  return windows;
}

using Windows = std::vector<uint32_t>;

TEST(Defaults, MistralsWindow) {
  EXPECT_EQ(windows_of(good_spec("mistral-window", "{}")), Windows(3, 8));
  EXPECT_EQ(windows_of(good_spec("mistral-window", R"({"sliding_window": null})")), Windows(3, 0));
  EXPECT_EQ(windows_of(good_spec("mistral-window", R"({"sliding_window": "absent"})")),
            Windows(3, 4096));
}

TEST(Defaults, QwensWindowByLayer) {
  const auto windows = [](std::string_view edits) {
    return windows_of(good_spec("qwen2-swa-partial", edits));
  };
  EXPECT_EQ(windows("{}"), (Windows{0, 5, 5}));
  EXPECT_EQ(windows(R"({"max_window_layers": 2})"), (Windows{0, 0, 5}));
  EXPECT_EQ(windows(R"({"max_window_layers": "absent"})"), (Windows{0, 0, 0})) << "28";
  EXPECT_EQ(windows(R"({"max_window_layers": 0, "sliding_window": "absent"})"), Windows(3, 4096));
  EXPECT_EQ(windows(R"({"use_sliding_window": false})"), Windows(3, 0));
  EXPECT_EQ(windows(R"({"use_sliding_window": "absent"})"), Windows(3, 0));
  EXPECT_EQ(windows(R"({"layer_types": ["sliding_attention", "full_attention",
                                        "sliding_attention"]})"),
            (Windows{5, 0, 5}));
}

TEST(Defaults, Heads) {
  EXPECT_EQ(good_spec("llama-gqa", R"({"head_dim": "absent"})").sublayers[0].heads.head_dim, 8);
  EXPECT_EQ(good_spec("qwen3", R"({"head_dim": "absent"})").sublayers[0].heads.head_dim, 128);
  EXPECT_EQ(
      good_spec("llama-gqa", R"({"num_key_value_heads": "absent"})").sublayers[0].heads.kv_heads,
      6);
  const auto mistral = good_spec("mistral-window",
                                 R"({"num_attention_heads": 16, "num_key_value_heads": "absent"})");
  EXPECT_EQ(mistral.sublayers[0].heads.kv_heads, 8);
  const auto qwen = good_spec(
      "qwen2", R"({"num_attention_heads": 64, "num_key_value_heads": "absent", "head_dim": 16})");
  EXPECT_EQ(qwen.sublayers[0].heads.kv_heads, 32);
  EXPECT_EQ(good_spec("llama-gqa", R"({"head_dim": 16.0})").sublayers[0].heads.head_dim, 16);
}

TEST(Defaults, BiasesAndNorms) {
  const auto heads = [](const char* name, std::string_view edits) {
    return good_spec(name, edits).sublayers[0].heads;
  };
  EXPECT_FALSE(heads("llama-gqa", R"({"attention_bias": "absent"})").qkv_bias);
  EXPECT_TRUE(heads("llama-gqa", R"({"attention_bias": true})").qkv_bias);
  EXPECT_TRUE(heads("llama-gqa", R"({"attention_bias": true})").output_bias);
  EXPECT_FALSE(heads("mistral-window", R"({"attention_bias": true})").qkv_bias);
  EXPECT_TRUE(heads("qwen2", "{}").qkv_bias);
  EXPECT_FALSE(heads("qwen2", R"({"attention_bias": true})").output_bias);
  EXPECT_TRUE(heads("qwen3", "{}").qk_norm);
  EXPECT_FALSE(heads("qwen2", "{}").qk_norm);
  EXPECT_TRUE(good_spec("llama-gqa", R"({"mlp_bias": true})").sublayers[1].ffn_bias);
  EXPECT_FALSE(good_spec("qwen2", R"({"mlp_bias": true})").sublayers[1].ffn_bias);
}

TEST(Defaults, ContextEpsilonAndEnds) {
  EXPECT_EQ(good_spec("llama-gqa", R"({"max_position_embeddings": "absent"})").context_max, 2048u);
  EXPECT_EQ(good_spec("mistral-window", R"({"max_position_embeddings": "absent"})").context_max,
            131072u);
  EXPECT_EQ(good_spec("qwen3", R"({"max_position_embeddings": "absent"})").context_max, 32768u);
  EXPECT_EQ(good_spec("qwen3", R"({"rms_norm_eps": "absent"})").norm_epsilon, 1e-6f);
  EXPECT_EQ(good_spec("qwen3", "{}").eos_token_ids, std::vector<int32_t>{2});
  EXPECT_EQ(good_spec("qwen3", R"({"eos_token_id": [4, 2, 4]})").eos_token_ids,
            (std::vector<int32_t>{4, 2}));
  EXPECT_TRUE(good_spec("qwen3", R"({"eos_token_id": null})").eos_token_ids.empty());
}

// An end token that the vocabulary does not have can never be said, and must not reach the sampler.
TEST(Defaults, EndTokensBeyondTheVocabulary) {
  EXPECT_EQ(
      good_spec("qwen3", R"({"eos_token_id": [96, 97, 151643, -1, 5000000002]})").eos_token_ids,
      std::vector<int32_t>{96});
}

TEST(Defaults, GenerationConfigAddsEndTokens) {
  const TempFolder folder;
  std::ofstream(folder.path() + "/config.json")
      << boost::json::serialize(edited_config("qwen3", "{}"));
  std::ofstream(folder.path() + "/generation_config.json") << R"({"eos_token_id": [9, 2]})";
  const auto spec = read_model_spec(folder.path(), nullptr);
  ASSERT_TRUE(spec.ok());
  EXPECT_EQ(spec->eos_token_ids, (std::vector<int32_t>{2, 9}));
}

TEST(Defaults, Yoco) {
  const ModelSpec spec = good_spec("yoco-gret-tiny", R"({"num_self_decoder_layers": "absent"})");
  EXPECT_EQ(spec.sublayers[spec.logits_only_from].layer, 2u);
  EXPECT_EQ(good_spec("yoco-gret-tiny", R"({"norm_eps": "absent"})").norm_epsilon, 1e-6f);
  const auto fla = good_spec("yoco-gret-tiny", R"({"cross_decoder_attn": {"num_heads": 4}})").ropes;
  ASSERT_EQ(fla.size(), 2u) << "yoco's table in one half, flash-linear-attention's in the other";
  EXPECT_NE(fla[0], fla[1]);
}

TEST(Defaults, Rwkv) {
  EXPECT_EQ(good_spec("rwkv7-hub", R"({"intermediate_size": null})").sublayers[1].ffn_dim, 64);
  EXPECT_EQ(good_spec("rwkv7-hub", R"({"intermediate_size": null, "hidden_ratio": null})")
                .sublayers[1]
                .ffn_dim,
            512);
  EXPECT_EQ(good_spec("rwkv7-hub", R"({"intermediate_size": null, "hidden_ratio": 0.51})")
                .sublayers[1]
                .ffn_dim,
            96)
      << "rounded up to 32";
  EXPECT_EQ(good_spec("rwkv4-hf", R"({"intermediate_size": null})").sublayers[1].ffn_dim, 192);
  EXPECT_EQ(good_spec("rwkv4-hf", R"({"attention_hidden_size": null})").attention_dim, 48);
  EXPECT_EQ(good_spec("rwkv4-hf", R"({"vocab_size": null})").vocab, 50277);
}

}  // namespace
}  // namespace trireme::test
