// YOCO (arXiv 2405.05254): a self-decoder of gated retention or sliding-window attention, one
// global key/value, a cross-decoder that reads it. Semantics of microsoft/unilm YOCO; config and
// names of flash-linear-attention's YOCOForCausalLM, or unilm's flat names.
#include <cmath>

#include <fmt/format.h>

#include "runtime/model/families/families.h"
#include "runtime/model/families/rope.h"

namespace trireme {
namespace {

// Which of the two conventions a checkpoint's tensor names follow.
struct Names {
  bool unilm = false;

  std::string layer(bool self, uint32_t index) const {
    if (unilm) return fmt::format("{}_decoder.layers.{}.", self ? "self" : "cross", index);
    return fmt::format("model.{}_layers.{}.", self ? "self" : "cross", index);
  }
  std::string mixer_norm(const std::string& layer) const {
    return layer + (unilm ? "mixer_layer_norm" : "attn_norm");
  }
  std::string ffn_norm(const std::string& layer) const {
    return layer + (unilm ? "final_layer_norm" : "mlp_norm");
  }
  std::string mixer(const std::string& layer, std::string_view fla, std::string_view flat) const {
    return fmt::format("{}{}.{}.weight", layer, unilm ? "mixer" : "attn", unilm ? flat : fla);
  }
  std::string shared(std::string_view fla, std::string_view flat) const {
    return unilm ? fmt::format("cross_decoder.{}", flat)
                 : fmt::format("model.shared_kv_builder.{}", fla);
  }
};

SublayerSpec swiglu(const Names& names, const std::string& prefix, uint32_t layer,
                    int32_t ffn_dim) {
  SublayerSpec sub;
  sub.kind = SublayerKind::kSwiGlu;
  sub.layer = layer;
  sub.ffn_dim = ffn_dim;
  sub.norm = names.ffn_norm(prefix);
  if (names.unilm) {
    sub.tensors = {{"gate", prefix + "ffn.fc1.weight"},
                   {"up", prefix + "ffn.gate.weight"},
                   {"down", prefix + "ffn.fc2.weight"}};
  } else {
    for (const char* x : {"gate", "up", "down"})
      sub.tensors[x] = fmt::format("{}mlp.{}_proj.weight", prefix, x);
  }
  return sub;
}

SublayerSpec self_mixer(const Names& names, const std::string& prefix, uint32_t layer,
                        const HeadSpec& heads, bool retention) {
  SublayerSpec sub;
  sub.kind = retention ? SublayerKind::kRetention : SublayerKind::kAttention;
  sub.layer = layer;
  sub.heads = heads;
  sub.norm = names.mixer_norm(prefix);
  sub.tensors = {{"q", names.mixer(prefix, "q_proj", "q_proj")},
                 {"k", names.mixer(prefix, "k_proj", "k_proj")},
                 {"v", names.mixer(prefix, "v_proj", "v_proj")},
                 {"output", names.mixer(prefix, "o_proj", "out_proj")}};
  if (retention) {
    sub.tensors["gate"] = names.mixer(prefix, "g_proj", "g_proj");
    sub.tensors["decay"] = names.mixer(prefix, "gk_proj", "gt_proj");
  }
  return sub;
}

SublayerSpec shared_kv(SublayerKind kind, const Names& names, uint32_t layer,
                       const HeadSpec& heads) {
  SublayerSpec sub;
  sub.kind = kind;
  sub.layer = layer;
  sub.heads = heads;
  if (kind == SublayerKind::kMakeSharedKv) {
    sub.norm = names.shared("kv_norm", "kv_layer_norm");
    sub.tensors = {{"k", names.shared("k_proj.weight", "k_proj.weight")},
                   {"v", names.shared("v_proj.weight", "v_proj.weight")}};
  }
  return sub;
}

// Reads one of the two attention objects: which table its rope has, and how many heads.
HeadSpec read_heads(ConfigReader& attn, int64_t dim, bool grouped, std::vector<RopeSpec>& ropes) {
  HeadSpec heads;
  heads.heads = static_cast<int32_t>(attn.integer("num_heads"));
  heads.kv_heads =
      grouped ? static_cast<int32_t>(attn.integer_or("num_kv_heads", heads.heads)) : heads.heads;
  if (dim % heads.heads != 0) {
    attn.fail(StatusCode::kInvalidArgument,
              fmt::format("num_heads {} does not divide hidden_size {}", heads.heads, dim));
  }
  if (heads.heads % heads.kv_heads != 0) {
    attn.fail(StatusCode::kInvalidArgument,
              fmt::format("num_heads {} is not a multiple of num_kv_heads {}", heads.heads,
                          heads.kv_heads));
  }
  heads.head_dim = static_cast<int32_t>(dim / heads.heads);
  if (heads.head_dim % 2 != 0)
    attn.fail(StatusCode::kInvalidArgument, "the head dimension must be even");
  attn.refuse("qkv_bias", "a bias of the projections");
  attn.refuse("qk_norm", "a norm of queries and keys");
  const double theta = attn.number_or("rope_theta", 10000.0, 1e-3, 1e15);
  const std::string convention = attn.string_or("rope_inv_freq", "fla");
  if (convention != "yoco" && convention != "fla") {
    attn.fail(
        StatusCode::kUnimplemented,
        fmt::format("rope_inv_freq '{}' is not supported, only 'yoco' and 'fla'", convention));
  }
  RopeSpec rope = yoco_rope(heads.head_dim, theta);
  if (convention == "fla") {
    rope.inverse_frequencies.clear();
    for (double f : default_frequencies(heads.head_dim, theta))
      rope.inverse_frequencies.push_back(static_cast<float>(f));
  }
  heads.rope = static_cast<int32_t>(ropes.size());
  for (size_t i = 0; i < ropes.size(); ++i) {
    if (ropes[i] == rope) heads.rope = static_cast<int32_t>(i);
  }
  if (heads.rope == static_cast<int32_t>(ropes.size())) ropes.push_back(std::move(rope));
  return heads;
}

}  // namespace

Result<ModelSpec> read_yoco_spec(ConfigReader& config, const Checkpoint* checkpoint) {
  ModelSpec spec;
  spec.family = "yoco";
  spec.model_type = "yoco";
  spec.dim = config.integer("hidden_size");
  spec.vocab = config.integer("vocab_size");
  spec.layers = static_cast<uint32_t>(config.integer("num_hidden_layers", 2, kLayersMax));
  const auto self_layers =
      static_cast<uint32_t>(config.integer_or("num_self_decoder_layers", spec.layers / 2));
  const auto ffn_dim = static_cast<int32_t>(config.integer("intermediate_size"));
  spec.context_max = static_cast<uint32_t>(config.integer_or("max_position_embeddings", 2048));
  spec.norm_epsilon = static_cast<float>(config.number_or("norm_eps", 1e-6, 0, 1));
  spec.tied = config.boolean_or("tie_word_embeddings", false);
  spec.embedding_scale = std::sqrt(static_cast<float>(spec.dim));
  const std::string activation = config.string_or("hidden_act", "swish");
  if (activation != "swish" && activation != "silu") {
    config.fail(StatusCode::kUnimplemented,
                fmt::format("field 'hidden_act': '{}' is not supported, only swish", activation));
  }
  if (self_layers >= spec.layers) {
    config.fail(StatusCode::kInvalidArgument,
                "num_self_decoder_layers must be less than num_hidden_layers");
  }

  ConfigReader self = config.child("self_decoder_attn");
  self.only({"type", "num_heads", "num_kv_heads", "gate_logit_normalizer", "window_size",
             "qkv_bias", "qk_norm", "rope_theta", "rope_inv_freq"});
  const std::string type = self.string_or("type", "gated_deltanet");
  const bool retention = type == "gated_retention";
  HeadSpec self_heads = read_heads(self, spec.dim, false, spec.ropes);
  if (self.integer_or("num_kv_heads", self_heads.heads) != self_heads.heads) {
    self.fail(StatusCode::kUnimplemented,
              "num_kv_heads other than num_heads is not supported in the self-decoder");
  }
  float gate_normalizer = 16.0f;
  if (retention) {
    gate_normalizer = static_cast<float>(self.number_or("gate_logit_normalizer", 16, 1e-3, 1e6));
  } else if (type == "swa") {
    self_heads.window_tokens = static_cast<uint32_t>(self.integer("window_size"));
  } else {
    self.fail(StatusCode::kUnimplemented,
              fmt::format("type '{}' is not supported, only gated_retention and swa", type));
  }
  config.absorb(self);

  ConfigReader cross = config.child("cross_decoder_attn");
  cross.only({"num_heads", "num_kv_heads", "qkv_bias", "qk_norm", "rope_theta", "rope_inv_freq"});
  const HeadSpec cross_heads = read_heads(cross, spec.dim, true, spec.ropes);
  config.absorb(cross);
  if (!config.status().ok()) return config.status();

  Names names;
  names.unilm = checkpoint != nullptr && checkpoint->find("embed_tokens.weight") != nullptr;
  spec.embedding = names.unilm ? "embed_tokens.weight" : "model.embeddings.weight";
  spec.final_norm = names.unilm ? "layer_norm" : "model.norm";
  spec.head = spec.tied     ? spec.embedding
              : names.unilm ? "output_projection.weight"
                            : "lm_head.weight";
  for (uint32_t i = 0; i < self_layers; ++i) {
    const std::string prefix = names.layer(true, i);
    spec.sublayers.push_back(self_mixer(names, prefix, i, self_heads, retention));
    spec.sublayers.back().gate_normalizer = gate_normalizer;
    spec.sublayers.push_back(swiglu(names, prefix, i, ffn_dim));
  }
  spec.sublayers.push_back(
      shared_kv(SublayerKind::kMakeSharedKv, names, self_layers - 1, cross_heads));
  spec.sublayers.push_back(
      shared_kv(SublayerKind::kStoreSharedKv, names, self_layers - 1, cross_heads));
  spec.logits_only_from = static_cast<uint32_t>(spec.sublayers.size());
  for (uint32_t i = 0; i < spec.layers - self_layers; ++i) {
    const std::string prefix = names.layer(false, i);
    SublayerSpec sub;
    sub.kind = SublayerKind::kSharedAttention;
    sub.layer = self_layers + i;
    sub.heads = cross_heads;
    sub.norm = names.mixer_norm(prefix);
    sub.tensors = {{"q", names.mixer(prefix, "q_proj", "q_proj")},
                   {"output", names.mixer(prefix, "o_proj", "out_proj")}};
    spec.sublayers.push_back(std::move(sub));
    spec.sublayers.push_back(swiglu(names, prefix, self_layers + i, ffn_dim));
  }
  return spec;
}

}  // namespace trireme
