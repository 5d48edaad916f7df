// An architecture, written down as data: embed; then for each sublayer x += f(norm(x)); then norm
// and head. A family (families/) fills a ModelSpec from a checkpoint's config, the decoder runs it.
// Nothing else in the house knows which family it serves.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/ops.h"
#include "runtime/model/weights/quantized_tensors.h"

namespace trireme {

enum class SublayerKind : uint8_t {
  kAttention,        // grouped queries, own keys and values, full or windowed
  kRetention,        // YOCO: gated retention
  kMakeSharedKv,     // YOCO: between its halves; computes the one key/value of all later layers
  kStoreSharedKv,    // stores those rows in the cache of each stage that reads them
  kSharedAttention,  // YOCO: reads them
  kRwkv4TimeMix,
  kRwkv4ChannelMix,
  kRwkv7TimeMix,
  kRwkv7ChannelMix,
  kSwiGlu,
};

std::string_view sublayer_kind_name(SublayerKind kind);

// Rotary position embedding: head dimensions [0, 2 * inverse_frequencies.size()) are rotated.
struct RopeSpec {
  RopeStyle style = RopeStyle::kHalves;
  std::vector<float> inverse_frequencies;
  float scale = 1.0f;  // of cos and sin: YaRN's attention factor
  bool operator==(const RopeSpec&) const = default;
};

// Heads of an attention, a retention or an RWKV-7 time mix.
struct HeadSpec {
  int32_t heads = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  int32_t rope = -1;           // index into ModelSpec::ropes; -1: none
  uint32_t window_tokens = 0;  // 0: full
  bool qkv_bias = false;
  bool output_bias = false;
  bool qk_norm = false;  // RMS norm of each query and key head before the rope
};

// Ranks of RWKV-7's low-rank products.
struct LoraRanks {
  int32_t decay = 0, a = 0, v = 0, gate = 0;
};

struct SublayerSpec {
  SublayerKind kind = SublayerKind::kAttention;
  uint32_t layer = 0;   // counted over the whole model; a stage boundary lies between layers
  HeadSpec heads;       // where the kind has heads
  int32_t ffn_dim = 0;  // where it is a feed-forward half
  bool ffn_bias = false;
  float gate_normalizer = 16.0f;  // of a retention's decay

  // The checkpoint's names: of the norm before it (without ".weight" / ".bias"; "" : none), and of
  // each tensor by the name its sublayer calls it ("q", "output", "time_decay").
  std::string norm;
  std::map<std::string, std::string, std::less<>> tensors;
};

struct ModelSpec {
  std::string family;      // "gqa", "rwkv4", "rwkv7", "yoco"
  std::string model_type;  // as the checkpoint has it: "llama", "qwen3", ...
  int64_t dim = 0;
  int64_t vocab = 0;
  uint32_t layers = 0;
  uint32_t context_max = 0;   // max_position_embeddings; 0: no limit
  int64_t attention_dim = 0;  // RWKV-4: channels of the time mix
  LoraRanks lora;             // RWKV-7

  NormKind norm_kind = NormKind::kRms;
  float norm_epsilon = 1e-5f;
  float embedding_scale = 1.0f;
  bool tied = false;  // the head is the embedding

  std::string embedding;       // checkpoint names
  std::string embedding_norm;  // RWKV's ln0, without ".weight"; "": none
  std::string final_norm;
  std::string head;

  std::vector<RopeSpec> ropes;
  std::vector<SublayerSpec> sublayers;

  // From this sublayer on, only rows that want logits are computed: YOCO's early exit of prefill.
  // sublayers.size() in the other families.
  uint32_t logits_only_from = 0;

  // What checkpoint.norm tensors have: RMS a weight; layer norm a weight and a bias.
  bool norm_has_bias() const { return norm_kind == NormKind::kLayer; }

  std::vector<int32_t> eos_token_ids;
  std::optional<DType> dtype;                         // what the config says the weights are
  std::shared_ptr<const QuantizedTensors> quantized;  // null: every matrix is a plain tensor
};

}  // namespace trireme
