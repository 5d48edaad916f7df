#include "parallel/plan.h"
#include "runtime/model/sublayers/attention.h"
#include "runtime/model/sublayers/retention.h"
#include "runtime/model/sublayers/rwkv4.h"
#include "runtime/model/sublayers/rwkv7.h"
#include "runtime/model/sublayers/swiglu.h"

namespace trireme {

Result<std::unique_ptr<Sublayer>> make_sublayer(const SublayerContext& context) {
  switch (context.sublayer.kind) {
    case SublayerKind::kAttention:
      return Attention::make(context);
    case SublayerKind::kRetention:
      return Retention::make(context);
    case SublayerKind::kMakeSharedKv:
      return MakeSharedKv::make(context);
    case SublayerKind::kStoreSharedKv:
      return StoreSharedKv::make(context);
    case SublayerKind::kSharedAttention:
      return SharedAttention::make(context);
    case SublayerKind::kRwkv4TimeMix:
      return Rwkv4TimeMix::make(context);
    case SublayerKind::kRwkv4ChannelMix:
      return Rwkv4ChannelMix::make(context);
    case SublayerKind::kRwkv7TimeMix:
      return Rwkv7TimeMix::make(context);
    case SublayerKind::kRwkv7ChannelMix:
      return Rwkv7ChannelMix::make(context);
    case SublayerKind::kSwiGlu:
      return SwiGlu::make(context);
  }
  CHECK(false) << "unknown sublayer kind";
  return unimplemented("unknown sublayer kind");
}

StateSpec state_spec(const ModelSpec& spec, const SublayerSpec& sub, int shard, int shard_count,
                     DType cache_dtype) {
  using Growth = StateSpec::Growth;
  const HeadSpec& h = sub.heads;
  const auto fixed = [](int64_t bytes) {
    return StateSpec{Growth::kFixed, static_cast<uint64_t>(bytes), 0};
  };
  const auto own_heads = [&] { return shard_range(h.heads, shard, shard_count).count; };
  switch (sub.kind) {
    case SublayerKind::kAttention:
    case SublayerKind::kStoreSharedKv: {
      const auto kv =
          static_cast<int32_t>(split_heads(h.heads, h.kv_heads, shard, shard_count).kv.count);
      return {Growth::kPerToken,
              static_cast<uint64_t>(kv_bytes_per_token(kv, h.head_dim, cache_dtype)),
              h.window_tokens};
    }
    case SublayerKind::kRetention:
      return fixed(retention_state_bytes(own_heads(), h.head_dim));
    case SublayerKind::kRwkv4TimeMix:
      return fixed(shift_state_bytes(spec.dim) +
                   wkv4_state_bytes(shard_width(spec.attention_dim, shard, shard_count).count));
    case SublayerKind::kRwkv7TimeMix:
      return fixed(shift_state_bytes(spec.dim) + wkv7_state_bytes(own_heads(), h.head_dim));
    case SublayerKind::kRwkv4ChannelMix:
    case SublayerKind::kRwkv7ChannelMix:
      return fixed(shift_state_bytes(spec.dim));
    case SublayerKind::kMakeSharedKv:
    case SublayerKind::kSharedAttention:
    case SublayerKind::kSwiGlu:
      return {};
  }
  CHECK(false) << "unknown sublayer kind";
  return {};
}

std::string_view sublayer_kind_name(SublayerKind kind) {
  switch (kind) {
    case SublayerKind::kAttention:
      return "attention";
    case SublayerKind::kRetention:
      return "gated retention";
    case SublayerKind::kMakeSharedKv:
      return "make shared kv";
    case SublayerKind::kStoreSharedKv:
      return "store shared kv";
    case SublayerKind::kSharedAttention:
      return "shared attention";
    case SublayerKind::kRwkv4TimeMix:
      return "rwkv4 time mix";
    case SublayerKind::kRwkv4ChannelMix:
      return "rwkv4 channel mix";
    case SublayerKind::kRwkv7TimeMix:
      return "rwkv7 time mix";
    case SublayerKind::kRwkv7ChannelMix:
      return "rwkv7 channel mix";
    case SublayerKind::kSwiGlu:
      return "swiglu";
  }
  return "unknown";
}

}  // namespace trireme
