// Llama, Mistral, Qwen2, Qwen3: one shape with different biases, norms and windows. Defaults of
// absent fields are those of transformers' configuration_<model_type>.py.
#include <cmath>

#include <fmt/format.h>

#include "runtime/model/families/families.h"
#include "runtime/model/families/rope.h"

namespace trireme {
namespace {

// What differs between the model types of this family.
struct Variant {
  std::string_view type;
  int64_t kv_heads = 0;  // where num_key_value_heads is absent; 0: as many as heads
  int64_t head_dim = 0;  // where head_dim is absent; 0: hidden_size / heads
  int64_t context_max = 0;
  enum class Bias { kField, kAlways, kNever } qkv_bias = Bias::kField;
  bool output_bias_field = false;  // attention_bias is about the output projection too
  bool mlp_bias_field = false;
  bool qk_norm = false;
  enum class Window { kNone, kAllLayers, kByLayer } window = Window::kNone;
};

constexpr Variant kVariants[] = {
    {"llama", 0, 0, 2048, Variant::Bias::kField, true, true, false, Variant::Window::kNone},
    {"mistral", 8, 0, 131072, Variant::Bias::kNever, false, false, false,
     Variant::Window::kAllLayers},
    {"qwen2", 32, 0, 32768, Variant::Bias::kAlways, false, false, false, Variant::Window::kByLayer},
    {"qwen3", 32, 128, 32768, Variant::Bias::kField, true, false, true, Variant::Window::kByLayer},
};

const Variant& variant_of(std::string_view type) {
  for (const Variant& v : kVariants) {
    if (v.type == type) return v;
  }
  CHECK(false) << "not a GQA model_type: " << type;
  return kVariants[0];
}

void refuse_what_would_change_results(ConfigReader& config) {
  config.refuse("attn_logit_softcapping", "soft-capping of attention scores");
  config.refuse("final_logit_softcapping", "soft-capping of logits");
  config.refuse("num_experts", "a mixture of experts");
  config.refuse("num_local_experts", "a mixture of experts");
  config.refuse("dual_chunk_attention_config", "dual chunk attention");
  config.refuse("attention_sinks", "attention sinks");
  const std::string activation = config.string_or("hidden_act", "silu");
  if (activation != "silu" && activation != "swish") {
    config.fail(StatusCode::kUnimplemented,
                fmt::format("field 'hidden_act': '{}' is not supported, only silu", activation));
  }
}

// The window of each layer; 0: full attention.
std::vector<uint32_t> read_windows(ConfigReader& config, const Variant& variant, int64_t layers) {
  std::vector<uint32_t> windows(layers, 0);
  if (variant.window == Variant::Window::kNone) {
    config.refuse("sliding_window", "a sliding window in this model_type");
    return windows;
  }
  int64_t window = 0;
  int64_t first = 0;
  if (variant.window == Variant::Window::kAllLayers) {
    // An explicit null means none; an absent field means transformers' default.
    const bool absent = !config.json().get_object().contains("sliding_window");
    window = config.integer_or("sliding_window", absent ? 4096 : 0);
  } else if (config.boolean_or("use_sliding_window", false)) {
    window = config.integer_or("sliding_window", 4096);
    first = config.integer_or("max_window_layers", 28, 0);
  }
  const Json* kinds = find(config.json(), "layer_types");
  if (kinds != nullptr &&
      (!kinds->is_array() || kinds->get_array().size() != static_cast<size_t>(layers))) {
    config.fail(StatusCode::kInvalidArgument,
                "field 'layer_types' must be a list with one entry per layer");
    return windows;
  }
  for (int64_t i = 0; i < layers; ++i) {
    bool windowed = i >= first;
    if (kinds != nullptr) {
      const Json& kind = kinds->get_array()[i];
      const std::string_view name = kind.is_string() ? std::string_view(kind.get_string()) : "";
      if (name != "sliding_attention" && name != "full_attention") {
        config.fail(StatusCode::kUnimplemented,
                    fmt::format("field 'layer_types': '{}' is not supported, only full_attention "
                                "and sliding_attention",
                                name));
      }
      windowed = name == "sliding_attention";
    }
    if (windowed) windows[i] = static_cast<uint32_t>(window);
  }
  return windows;
}

HeadSpec read_heads(ConfigReader& config, const Variant& variant, int64_t dim) {
  HeadSpec heads;
  heads.heads = static_cast<int32_t>(config.integer("num_attention_heads"));
  const int64_t kv_default = variant.kv_heads == 0 ? heads.heads : variant.kv_heads;
  heads.kv_heads = static_cast<int32_t>(config.integer_or("num_key_value_heads", kv_default));
  heads.head_dim = static_cast<int32_t>(
      config.integer_or("head_dim", variant.head_dim == 0 ? std::max<int64_t>(dim / heads.heads, 1)
                                                          : variant.head_dim));
  if (heads.heads % heads.kv_heads != 0) {
    config.fail(StatusCode::kInvalidArgument,
                fmt::format("num_attention_heads {} is not a multiple of num_key_value_heads {}",
                            heads.heads, heads.kv_heads));
  }
  const bool biased = config.boolean_or("attention_bias", false);
  heads.qkv_bias = variant.qkv_bias == Variant::Bias::kAlways ||
                   (variant.qkv_bias == Variant::Bias::kField && biased);
  heads.output_bias = variant.output_bias_field && biased;
  heads.qk_norm = variant.qk_norm;
  return heads;
}

SublayerSpec attention(const HeadSpec& heads, uint32_t layer, const std::string& prefix) {
  SublayerSpec sub;
  sub.kind = SublayerKind::kAttention;
  sub.layer = layer;
  sub.heads = heads;
  sub.norm = prefix + "input_layernorm";
  const std::string attn = prefix + "self_attn.";
  sub.tensors = {{"q", attn + "q_proj.weight"},
                 {"k", attn + "k_proj.weight"},
                 {"v", attn + "v_proj.weight"},
                 {"output", attn + "o_proj.weight"}};
  if (heads.qkv_bias) {
    for (const char* x : {"q", "k", "v"})
      sub.tensors[fmt::format("{}_bias", x)] = fmt::format("{}{}_proj.bias", attn, x);
  }
  if (heads.output_bias) sub.tensors["output_bias"] = attn + "o_proj.bias";
  if (heads.qk_norm) {
    sub.tensors["q_norm"] = attn + "q_norm.weight";
    sub.tensors["k_norm"] = attn + "k_norm.weight";
  }
  return sub;
}

SublayerSpec swiglu(int32_t ffn_dim, bool bias, uint32_t layer, const std::string& prefix) {
  SublayerSpec sub;
  sub.kind = SublayerKind::kSwiGlu;
  sub.layer = layer;
  sub.ffn_dim = ffn_dim;
  sub.ffn_bias = bias;
  sub.norm = prefix + "post_attention_layernorm";
  for (const char* x : {"gate", "up", "down"}) {
    sub.tensors[x] = fmt::format("{}mlp.{}_proj.weight", prefix, x);
    if (bias) sub.tensors[fmt::format("{}_bias", x)] = fmt::format("{}mlp.{}_proj.bias", prefix, x);
  }
  return sub;
}

}  // namespace

Result<ModelSpec> read_gqa_spec(ConfigReader& config) {
  ModelSpec spec;
  spec.family = "gqa";
  spec.model_type = config.string_or("model_type", "");
  const Variant& variant = variant_of(spec.model_type);
  refuse_what_would_change_results(config);

  spec.dim = config.integer("hidden_size");
  spec.vocab = config.integer("vocab_size");
  spec.layers = static_cast<uint32_t>(config.integer("num_hidden_layers", 1, kLayersMax));
  spec.context_max =
      static_cast<uint32_t>(config.integer_or("max_position_embeddings", variant.context_max));
  spec.norm_epsilon = static_cast<float>(config.number_or("rms_norm_eps", 1e-6, 0, 1));
  spec.tied = config.boolean_or("tie_word_embeddings", false);
  const auto ffn_dim = static_cast<int32_t>(config.integer("intermediate_size"));
  const bool mlp_bias = variant.mlp_bias_field && config.boolean_or("mlp_bias", false);
  HeadSpec heads = read_heads(config, variant, spec.dim);
  spec.ropes.push_back(read_rope(config, heads.head_dim, spec.context_max, 10000.0));
  heads.rope = 0;
  const std::vector<uint32_t> windows = read_windows(config, variant, spec.layers);
  if (!config.status().ok()) return config.status();

  spec.embedding = "model.embed_tokens.weight";
  spec.final_norm = "model.norm";
  spec.head = spec.tied ? spec.embedding : "lm_head.weight";
  for (uint32_t layer = 0; layer < spec.layers; ++layer) {
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    heads.window_tokens = windows[layer];
    spec.sublayers.push_back(attention(heads, layer, prefix));
    spec.sublayers.push_back(swiglu(ffn_dim, mlp_bias, layer, prefix));
  }
  spec.logits_only_from = static_cast<uint32_t>(spec.sublayers.size());
  return spec;
}

}  // namespace trireme
