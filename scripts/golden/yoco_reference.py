"""YOCO (arXiv 2405.05254) in float64 numpy, whole text at once: the semantics of microsoft/unilm, fla's names and config.

Checked against the two goldens that microsoft/unilm's own modules computed (yoco-gret-tiny, yoco-swa-tiny) before it
makes any golden of its own; `make_golden` refuses to go on when the difference exceeds the tolerance.
"""

import math

import numpy as np

from .gqa_reference import causal_attention, rms_norm, silu


def inverse_frequencies(attention, head_dim):
    half, theta = head_dim // 2, attention["rope_theta"]
    i = np.arange(half)
    exponents = i / (half - 1) if attention["rope_inv_freq"] == "yoco" else 2 * i / head_dim
    return theta ** -exponents


def rotate_pairs(x, inverse):
    """x [T, heads, hd]: pairs (2i, 2i + 1)."""
    angle = np.arange(len(x))[:, None, None] * inverse
    c, s = np.cos(angle), np.sin(angle)
    y = np.empty_like(x)
    y[..., 0::2] = x[..., 0::2] * c - x[..., 1::2] * s
    y[..., 1::2] = x[..., 1::2] * c + x[..., 0::2] * s
    return y


def gated_retention(q, k, v, log_decay, eps):
    """q, k, v [T, heads, hd], log_decay [T, heads] -> [T, heads * hd]

    S_t = exp(a_t) S_{t-1} + (k_t / sqrt(hd)) v_t^T;  o_t = q_t^T S_t;  each head divided by its own rms, without a weight.
    """
    tokens, heads, head_dim = q.shape
    state = np.zeros((heads, head_dim, head_dim))
    out = np.empty_like(q)
    for t in range(tokens):
        state = np.exp(log_decay[t])[:, None, None] * state + np.einsum("hk,hv->hkv", k[t], v[t]) / math.sqrt(head_dim)
        out[t] = np.einsum("hk,hkv->hv", q[t], state)
    return rms_norm(out, 1.0, eps).reshape(tokens, -1)


def logits(config, weights, tokens):
    """-> [T, V] in float64: the full forward, no early exit."""
    w = {k: v.astype(np.float64) for k, v in weights.items()}
    hidden, eps = config["hidden_size"], config["norm_eps"]
    mix, cross = config["self_decoder_attn"], config["cross_decoder_attn"]
    self_dim, cross_dim = hidden // mix["num_heads"], hidden // cross["num_heads"]
    mix_rope, cross_rope = inverse_frequencies(mix, self_dim), inverse_frequencies(cross, cross_dim)
    count, total = config["num_self_decoder_layers"], config["num_hidden_layers"]
    tokens_n = len(tokens)

    def linear(name, z):
        return z @ w[name + ".weight"].T

    def feed_forward(p, x):
        z = rms_norm(x, w[p + "mlp_norm.weight"], eps)
        gated = silu(linear(p + "mlp.gate_proj", z)) * linear(p + "mlp.up_proj", z)
        return x + linear(p + "mlp.down_proj", gated)

    x = math.sqrt(hidden) * w["model.embeddings.weight"][tokens]
    for i in range(count):
        p = f"model.self_layers.{i}."
        z = rms_norm(x, w[p + "attn_norm.weight"], eps)
        q, k, v = (linear(p + f"attn.{n}_proj", z).reshape(tokens_n, -1, self_dim) for n in "qkv")
        q, k = rotate_pairs(q, mix_rope), rotate_pairs(k, mix_rope)
        if mix["type"] == "gated_retention":
            gate = linear(p + "attn.gk_proj", z)
            log_decay = -np.log1p(np.exp(-gate)) / mix["gate_logit_normalizer"]
            y = silu(linear(p + "attn.g_proj", z)) * gated_retention(q, k, v, log_decay, eps)
        else:
            y = causal_attention(q, k, v, mix["window_size"])
        x = feed_forward(p, x + linear(p + "attn.o_proj", y))

    z = rms_norm(x, w["model.shared_kv_builder.kv_norm.weight"], eps)
    k, v = (linear(f"model.shared_kv_builder.{n}_proj", z).reshape(tokens_n, -1, cross_dim) for n in "kv")
    k = rotate_pairs(k, cross_rope)
    assert k.shape[1] == cross["num_kv_heads"]
    for i in range(total - count):
        p = f"model.cross_layers.{i}."
        z = rms_norm(x, w[p + "attn_norm.weight"], eps)
        q = rotate_pairs(linear(p + "attn.q_proj", z).reshape(tokens_n, -1, cross_dim), cross_rope)
        x = feed_forward(p, x + linear(p + "attn.o_proj", causal_attention(q, k, v, None)))
    return rms_norm(x, w["model.norm.weight"], eps) @ w["lm_head.weight"].T
