"""Llama-like models (GQA, MQA, MHA) in float64 numpy, whole text at once, written from the formulas.

Two uses: a second opinion on what transformers computes, and the engine of the negative controls, because it reads
every field of config.json that the controls edit. Tensor names are those of Llama, Mistral, Qwen2 and Qwen3.
"""

import math

import numpy as np


def rms_norm(x, weight, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def silu(x):
    return x / (1 + np.exp(-x))


def causal_attention(q, k, v, window):
    """q [T, heads, hd], k and v [T, kv_heads, hd] -> [T, heads * hd]; token i sees j with i - window < j <= i."""
    tokens, heads, head_dim = q.shape
    head = np.arange(heads) // (heads // k.shape[1])
    scores = np.einsum("ihd,jhd->hij", q, k[:, head]) / math.sqrt(head_dim)
    i, j = np.arange(tokens)[:, None], np.arange(tokens)[None, :]
    seen = (j <= i) & (j > i - window if window else True)
    return np.einsum("hij,jhd->ihd", softmax(np.where(seen, scores, -np.inf)), v[:, head]).reshape(tokens, -1)


def head_dim_of(config):
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]


def rope_table(config):
    """-> (inverse frequencies [r / 2], factor on cos and sin)"""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type") or rope.get("type") or "default"
    theta = rope.get("rope_theta") or config.get("rope_theta", 10000.0)
    partial = rope.get("partial_rotary_factor") or config.get("partial_rotary_factor", 1.0)
    r = int(head_dim_of(config) * partial)
    longest = config["max_position_embeddings"]
    original = rope.get("original_max_position_embeddings") or longest
    scale = rope.get("factor", 1.0)
    if kind == "dynamic":  # the static rule: the length is frozen at max_position_embeddings
        theta *= (scale * longest / original - (scale - 1)) ** (r / (r - 2))
    i = np.arange(r // 2)
    inverse = theta ** (-2.0 * i / r)
    if kind in ("default", "dynamic"):
        return inverse, 1.0
    if kind == "linear":
        return inverse / scale, 1.0
    if kind == "llama3":
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        turns = original * inverse / (2 * math.pi)  # original length over wavelength
        smooth = np.clip((turns - low) / (high - low), 0, 1)
        return (1 - smooth) * inverse / scale + smooth * inverse, 1.0
    if kind == "yarn":
        dim = lambda turns: r * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta))
        low = max(math.floor(dim(rope.get("beta_fast", 32))), 0)
        high = min(math.ceil(dim(rope.get("beta_slow", 1))), r - 1)
        ramp = np.clip((i - low) / max(high - low, 0.001), 0, 1)
        factor = rope.get("attention_factor") or 0.1 * math.log(scale) + 1
        return inverse / scale * ramp + inverse * (1 - ramp), factor
    raise ValueError(f"rope_type {kind!r} has no reference here")


def rotate_halves(x, inverse, factor):
    """x [T, heads, hd]: pairs (i, i + r/2) of the first r = 2 * len(inverse) dimensions."""
    half = len(inverse)
    angle = np.arange(len(x))[:, None, None] * inverse
    c, s = np.cos(angle) * factor, np.sin(angle) * factor
    a, b = x[..., :half], x[..., half : 2 * half]
    return np.concatenate([a * c - b * s, b * c + a * s, x[..., 2 * half :]], -1)


def window_of(config, layer):
    kind, window = config["model_type"], config.get("sliding_window")
    if kind == "mistral":
        return window
    if kind in ("qwen2", "qwen3") and config.get("use_sliding_window"):
        return window if layer >= config["max_window_layers"] else None
    return None


def logits(config, weights, tokens):
    """-> [T, V] in float64"""
    w = {k: v.astype(np.float64) for k, v in weights.items()}
    eps, hd = config["rms_norm_eps"], head_dim_of(config)
    inverse, factor = rope_table(config)

    def linear(name, x):
        y = x @ w[name + ".weight"].T
        return y + w[name + ".bias"] if name + ".bias" in w else y

    x = w["model.embed_tokens.weight"][tokens]
    for i in range(config["num_hidden_layers"]):
        p = f"model.layers.{i}."
        z = rms_norm(x, w[p + "input_layernorm.weight"], eps)
        q, k, v = (linear(p + f"self_attn.{n}_proj", z).reshape(len(x), -1, hd) for n in "qkv")
        assert q.shape[1] == config["num_attention_heads"] and k.shape[1] == config["num_key_value_heads"]
        if p + "self_attn.q_norm.weight" in w:
            q, k = rms_norm(q, w[p + "self_attn.q_norm.weight"], eps), rms_norm(k, w[p + "self_attn.k_norm.weight"], eps)
        q, k = rotate_halves(q, inverse, factor), rotate_halves(k, inverse, factor)
        x = x + linear(p + "self_attn.o_proj", causal_attention(q, k, v, window_of(config, i)))
        z = rms_norm(x, w[p + "post_attention_layernorm.weight"], eps)
        x = x + linear(p + "mlp.down_proj", silu(linear(p + "mlp.gate_proj", z)) * linear(p + "mlp.up_proj", z))
    head = "model.embed_tokens.weight" if config.get("tie_word_embeddings") else "lm_head.weight"
    return rms_norm(x, w["model.norm.weight"], eps) @ w[head].T
