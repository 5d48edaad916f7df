// RWKV-4 (arXiv 2305.13048) and RWKV-7 (arXiv 2503.14456), under BlinkDL's tensor names, and as
// transformers (RWKV-4) and flash-linear-attention (RWKV-7) have them.
#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "runtime/model/families/families.h"

namespace trireme {
namespace {

// The names of one convention. `layer` has a {} for the layer's number.
struct Names {
  bool blink = true;  // BlinkDL's; else Hugging Face's
  std::string layer(std::string_view hub_pattern, uint32_t index) const {
    return blink ? fmt::format("blocks.{}.", index) : fmt::format("{}.{}.", hub_pattern, index);
  }
};

SublayerSpec rwkv4_time_mix(const Names& names, uint32_t layer) {
  const std::string prefix = names.layer("rwkv.blocks", layer);
  const std::string att = prefix + (names.blink ? "att." : "attention.");
  SublayerSpec sub;
  sub.kind = SublayerKind::kRwkv4TimeMix;
  sub.layer = layer;
  sub.norm = prefix + "ln1";
  sub.tensors = {{"mix_k", att + (names.blink ? "time_mix_k" : "time_mix_key")},
                 {"mix_v", att + (names.blink ? "time_mix_v" : "time_mix_value")},
                 {"mix_r", att + (names.blink ? "time_mix_r" : "time_mix_receptance")},
                 {"decay", att + "time_decay"},
                 {"first", att + "time_first"},
                 {"key", att + "key.weight"},
                 {"value", att + "value.weight"},
                 {"receptance", att + "receptance.weight"},
                 {"output", att + "output.weight"}};
  return sub;
}

SublayerSpec rwkv4_channel_mix(const Names& names, uint32_t layer, int32_t ffn_dim) {
  const std::string prefix = names.layer("rwkv.blocks", layer);
  const std::string ffn = prefix + (names.blink ? "ffn." : "feed_forward.");
  SublayerSpec sub;
  sub.kind = SublayerKind::kRwkv4ChannelMix;
  sub.layer = layer;
  sub.ffn_dim = ffn_dim;
  sub.norm = prefix + "ln2";
  sub.tensors = {{"mix_k", ffn + (names.blink ? "time_mix_k" : "time_mix_key")},
                 {"mix_r", ffn + (names.blink ? "time_mix_r" : "time_mix_receptance")},
                 {"key", ffn + "key.weight"},
                 {"value", ffn + "value.weight"},
                 {"receptance", ffn + "receptance.weight"}};
  return sub;
}

SublayerSpec rwkv7_time_mix(const Names& names, uint32_t layer, const HeadSpec& heads,
                            bool fused_mix) {
  const std::string prefix = names.layer("model.layers", layer);
  const std::string att = prefix + (names.blink ? "att." : "attn.");
  SublayerSpec sub;
  sub.kind = SublayerKind::kRwkv7TimeMix;
  sub.layer = layer;
  sub.heads = heads;
  sub.norm = prefix + (names.blink ? "ln1" : "attn_norm");
  if (fused_mix) {
    sub.tensors["mix"] = att + "x_x";  // [6, dim]: r w k v a g
  } else {
    for (const char* x : {"r", "w", "k", "v", "a", "g"})
      sub.tensors[fmt::format("mix_{}", x)] = fmt::format("{}x_{}", att, x);
  }
  for (const char* x : {"w", "a", "v", "g"}) {
    if (layer == 0 && *x == 'v') continue;  // the first layer's value is nobody's residual
    const bool biased = *x != 'g';
    if (names.blink) {
      sub.tensors[fmt::format("{}_down", x)] = fmt::format("{}{}1", att, x);
      sub.tensors[fmt::format("{}_up", x)] = fmt::format("{}{}2", att, x);
      if (biased) sub.tensors[fmt::format("{}_bias", x)] = fmt::format("{}{}0", att, x);
    } else {
      sub.tensors[fmt::format("{}_down", x)] = fmt::format("{}{}_lora.lora.0.weight", att, x);
      sub.tensors[fmt::format("{}_up", x)] = fmt::format("{}{}_lora.lora.2.weight", att, x);
      if (biased)
        sub.tensors[fmt::format("{}_bias", x)] = fmt::format("{}{}_lora.lora.2.bias", att, x);
    }
  }
  for (const char* x : {"k_k", "k_a", "r_k"}) sub.tensors[x] = att + x;
  const auto projection = [&](const char* blink, const char* hub) {
    return att + (names.blink ? blink : hub) + ".weight";
  };
  sub.tensors["receptance"] = projection("receptance", "r_proj");
  sub.tensors["key"] = projection("key", "k_proj");
  sub.tensors["value"] = projection("value", "v_proj");
  sub.tensors["output"] = projection("output", "o_proj");
  sub.tensors["group_norm_weight"] = att + (names.blink ? "ln_x.weight" : "g_norm.weight");
  sub.tensors["group_norm_bias"] = att + (names.blink ? "ln_x.bias" : "g_norm.bias");
  return sub;
}

SublayerSpec rwkv7_channel_mix(const Names& names, uint32_t layer, int32_t ffn_dim) {
  const std::string prefix = names.layer("model.layers", layer);
  SublayerSpec sub;
  sub.kind = SublayerKind::kRwkv7ChannelMix;
  sub.layer = layer;
  sub.ffn_dim = ffn_dim;
  sub.norm = prefix + (names.blink ? "ln2" : "ffn_norm");
  sub.tensors = {{"mix_k", prefix + "ffn.x_k"},
                 {"key", prefix + "ffn.key.weight"},
                 {"value", prefix + "ffn.value.weight"}};
  return sub;
}

// Everything but the sizes.
void fill_rwkv4(ModelSpec& spec, const Names& names, int32_t ffn_dim) {
  spec.family = "rwkv4";
  spec.norm_kind = NormKind::kLayer;
  spec.embedding = names.blink ? "emb.weight" : "rwkv.embeddings.weight";
  spec.embedding_norm = names.blink ? "blocks.0.ln0" : "rwkv.blocks.0.pre_ln";
  spec.final_norm = names.blink ? "ln_out" : "rwkv.ln_out";
  spec.head = spec.tied ? spec.embedding : "head.weight";
  for (uint32_t layer = 0; layer < spec.layers; ++layer) {
    spec.sublayers.push_back(rwkv4_time_mix(names, layer));
    spec.sublayers.push_back(rwkv4_channel_mix(names, layer, ffn_dim));
  }
  spec.logits_only_from = static_cast<uint32_t>(spec.sublayers.size());
}

void fill_rwkv7(ModelSpec& spec, const Names& names, const HeadSpec& heads, int32_t ffn_dim,
                bool fused_mix) {
  spec.family = "rwkv7";
  spec.norm_kind = NormKind::kLayer;
  spec.embedding = names.blink ? "emb.weight" : "model.embeddings.weight";
  spec.embedding_norm = names.blink ? "blocks.0.ln0" : "model.layers.0.pre_norm";
  spec.final_norm = names.blink ? "ln_out" : "model.norm";
  spec.head = spec.tied ? spec.embedding : names.blink ? "head.weight" : "lm_head.weight";
  for (uint32_t layer = 0; layer < spec.layers; ++layer) {
    spec.sublayers.push_back(rwkv7_time_mix(names, layer, heads, fused_mix));
    spec.sublayers.push_back(rwkv7_channel_mix(names, layer, ffn_dim));
  }
  spec.logits_only_from = static_cast<uint32_t>(spec.sublayers.size());
}

// ---- sizes from names and shapes ----

Result<std::vector<int64_t>> shape_of(const Checkpoint& checkpoint, std::string_view name,
                                      size_t dimensions) {
  const TensorInfo* info = checkpoint.find(name);
  if (info == nullptr)
    return not_found(fmt::format("{}: tensor '{}' is missing", checkpoint.path(), name));
  std::vector<int64_t> shape = info->shape;
  while (shape.size() > dimensions && shape.front() == 1) shape.erase(shape.begin());
  if (shape.size() != dimensions ||
      std::any_of(shape.begin(), shape.end(), [](int64_t n) { return n < 1 || n > INT32_MAX; })) {
    return invalid_argument(
        fmt::format("{}: tensor '{}' has an unexpected shape", checkpoint.path(), name));
  }
  return shape;
}

uint32_t count_layers(const Checkpoint& checkpoint) {
  uint32_t layers = 0;
  for (const TensorInfo& info : checkpoint.tensors()) {
    const std::string_view name = info.name;
    if (!name.starts_with("blocks.")) continue;
    uint32_t index = 0;
    const char* begin = name.data() + 7;
    const auto parsed = std::from_chars(begin, name.data() + name.size(), index);
    if (parsed.ec == std::errc() && index < kLayersMax) layers = std::max(layers, index + 1);
  }
  return layers;
}

Status refuse_other_versions(const Checkpoint& checkpoint, uint32_t layers) {
  const auto has = [&](std::string_view leaf) {
    for (uint32_t layer = 0; layer < layers; ++layer) {
      if (checkpoint.find(fmt::format("blocks.{}.{}", layer, leaf)) != nullptr) return true;
    }
    return false;
  };
  struct Mark {
    const char* leaf;
    const char* version;
  };
  constexpr Mark kMarks[] = {{"ffn.s_emb.weight", "RWKV-7a (DeepEmbed)"},
                             {"ffn.s1", "RWKV-7a (DeepEmbed)"},
                             {"qkv.qq.weight", "RWKV-7b (DEA)"},
                             {"att.time_maa_x", "RWKV-6"},
                             {"att.time_maa_k", "RWKV-6"}};
  for (const Mark& mark : kMarks) {
    if (has(mark.leaf)) {
      return unimplemented(fmt::format(
          "{}: tensor '{}' says {}, which is not supported; Trireme reads RWKV-4 and RWKV-7",
          checkpoint.path(), mark.leaf, mark.version));
    }
  }
  if (!has("att.r_k") && has("att.ln_x.weight")) {
    return unimplemented(fmt::format(
        "{}: tensor 'att.ln_x.weight' without 'att.r_k' says RWKV-5 or RWKV-6, which are not "
        "supported; Trireme reads RWKV-4 and RWKV-7",
        checkpoint.path()));
  }
  return Status::ok_status();
}

// The smaller side of a low-rank matrix; the larger one must be the model's width.
Result<int32_t> lora_rank(const Checkpoint& checkpoint, const std::string& name, int64_t dim) {
  auto shape = shape_of(checkpoint, name, 2);
  if (!shape.ok()) return shape.status();
  const int64_t a = (*shape)[0], b = (*shape)[1];
  if (a != dim && b != dim) {
    return invalid_argument(
        fmt::format("{}: tensor '{}' has shape [{}, {}], expected one side to be {}",
                    checkpoint.path(), name, a, b, dim));
  }
  return static_cast<int32_t>(a == dim ? b : a);
}

Status read_lora_ranks(const Checkpoint& checkpoint, const SublayerSpec& sub, bool has_v,
                       int64_t dim, LoraRanks& ranks) {
  struct Entry {
    const char* key;
    int32_t* rank;
  };
  for (const Entry& e : {Entry{"w_down", &ranks.decay}, Entry{"a_down", &ranks.a},
                         Entry{"g_down", &ranks.gate}, Entry{"v_down", &ranks.v}}) {
    if (!has_v && e.rank == &ranks.v) continue;
    auto rank = lora_rank(checkpoint, sub.tensors.find(e.key)->second, dim);
    if (!rank.ok()) return rank.status();
    *e.rank = *rank;
  }
  return Status::ok_status();
}

}  // namespace

Result<ModelSpec> read_blink_spec(const Checkpoint& checkpoint) {
  const uint32_t layers = count_layers(checkpoint);
  if (layers == 0 || checkpoint.find("emb.weight") == nullptr) {
    return invalid_argument(
        fmt::format("{}: neither a config.json beside it nor RWKV's tensor names (emb.weight, "
                    "blocks.0...) inside: what model is it?",
                    checkpoint.path()));
  }
  if (Status s = refuse_other_versions(checkpoint, layers); !s.ok()) return s;
  ModelSpec spec;
  spec.layers = layers;
  spec.eos_token_ids = {0};
  auto embedding = shape_of(checkpoint, "emb.weight", 2);
  if (!embedding.ok()) return embedding.status();
  spec.vocab = (*embedding)[0];
  spec.dim = (*embedding)[1];
  auto ffn = shape_of(checkpoint, "blocks.0.ffn.key.weight", 2);
  if (!ffn.ok()) return ffn.status();
  const auto ffn_dim = static_cast<int32_t>((*ffn)[0]);
  if (checkpoint.find("blocks.0.att.r_k") == nullptr) {
    spec.model_type = "rwkv4";
    auto decay = shape_of(checkpoint, "blocks.0.att.time_decay", 1);
    if (!decay.ok()) return decay.status();
    spec.attention_dim = (*decay)[0];
    fill_rwkv4(spec, Names{true}, ffn_dim);
    return spec;
  }
  spec.model_type = "rwkv7";
  auto r_k = shape_of(checkpoint, "blocks.0.att.r_k", 2);
  if (!r_k.ok()) return r_k.status();
  HeadSpec heads;
  heads.heads = heads.kv_heads = static_cast<int32_t>((*r_k)[0]);
  heads.head_dim = static_cast<int32_t>((*r_k)[1]);
  if (int64_t{heads.heads} * heads.head_dim != spec.dim) {
    return invalid_argument(
        fmt::format("{}: tensor 'blocks.0.att.r_k' has {} x {} channels, emb.weight {}",
                    checkpoint.path(), heads.heads, heads.head_dim, spec.dim));
  }
  fill_rwkv7(spec, Names{true}, heads, ffn_dim, false);
  const size_t sample = layers > 1 ? 2 : 0;  // the first layer has no v_down
  if (Status s =
          read_lora_ranks(checkpoint, spec.sublayers[sample], layers > 1, spec.dim, spec.lora);
      !s.ok())
    return s;
  return spec;
}

Result<ModelSpec> read_rwkv4_spec(ConfigReader& config) {
  ModelSpec spec;
  spec.model_type = "rwkv";
  spec.vocab = config.integer_or("vocab_size", 50277);
  spec.dim = config.integer_or("hidden_size", 4096);
  spec.layers = static_cast<uint32_t>(config.integer_or("num_hidden_layers", 32, 1, kLayersMax));
  spec.attention_dim = config.integer_or("attention_hidden_size", spec.dim);
  const auto ffn_dim = static_cast<int32_t>(config.integer_or("intermediate_size", 4 * spec.dim));
  spec.norm_epsilon = static_cast<float>(config.number_or("layer_norm_epsilon", 1e-5, 0, 1));
  spec.tied = config.boolean_or("tie_word_embeddings", false);
  if (!config.status().ok()) return config.status();
  fill_rwkv4(spec, Names{false}, ffn_dim);
  return spec;
}

Result<ModelSpec> read_rwkv7_spec(ConfigReader& config, const Checkpoint* checkpoint) {
  ModelSpec spec;
  spec.model_type = "rwkv7";
  spec.dim = config.integer("hidden_size");
  spec.layers = static_cast<uint32_t>(config.integer("num_hidden_layers", 1, kLayersMax));
  spec.vocab = config.integer("vocab_size");
  HeadSpec heads;
  heads.head_dim = static_cast<int32_t>(config.integer_or("head_dim", 64));
  heads.heads = heads.kv_heads = static_cast<int32_t>(
      config.integer_or("num_heads", std::max<int64_t>(spec.dim / heads.head_dim, 1)));
  if (int64_t{heads.heads} * heads.head_dim != spec.dim) {
    config.fail(StatusCode::kInvalidArgument,
                fmt::format("num_heads {} x head_dim {} is not hidden_size {}", heads.heads,
                            heads.head_dim, spec.dim));
  }
  config.refuse("attn", "a hybrid of RWKV-7 and attention");
  if (!config.boolean_or("norm_first", true))
    config.fail(StatusCode::kUnimplemented, "field 'norm_first': false is not supported");
  if (!config.boolean_or("norm_bias", true))
    config.fail(StatusCode::kUnimplemented, "field 'norm_bias': false is not supported");
  const std::string activation = config.string_or("hidden_act", "sqrelu");
  if (activation != "sqrelu") {
    config.fail(StatusCode::kUnimplemented,
                fmt::format("field 'hidden_act': '{}' is not supported, only sqrelu", activation));
  }
  const double ratio = config.number_or("hidden_ratio", 4.0, 1e-3, 1e3);
  const int64_t by_ratio =
      (static_cast<int64_t>(static_cast<double>(spec.dim) * ratio) + 31) / 32 * 32;
  const auto ffn_dim = static_cast<int32_t>(config.integer_or("intermediate_size", by_ratio));
  spec.norm_epsilon = static_cast<float>(config.number_or("norm_eps", 1e-5, 0, 1));
  spec.tied = config.boolean_or("tie_word_embeddings", false);
  spec.lora.decay = static_cast<int32_t>(config.integer_or("decay_low_rank_dim", 64));
  spec.lora.a = static_cast<int32_t>(config.integer_or("a_low_rank_dim", 64));
  spec.lora.v = static_cast<int32_t>(config.integer_or("v_low_rank_dim", 32));
  spec.lora.gate = static_cast<int32_t>(config.integer_or("gate_low_rank_dim", 128));
  if (!config.status().ok()) return config.status();

  const bool fused_mix =
      checkpoint != nullptr && checkpoint->find("model.layers.0.attn.x_x") != nullptr;
  fill_rwkv7(spec, Names{false}, heads, ffn_dim, fused_mix);
  if (checkpoint != nullptr) {  // released configs and files disagree at times: the file decides
    const size_t sample = spec.layers > 1 ? 2 : 0;
    if (Status s = read_lora_ranks(*checkpoint, spec.sublayers[sample], spec.layers > 1, spec.dim,
                                   spec.lora);
        !s.ok())
      return s;
  }
  return spec;
}

}  // namespace trireme
