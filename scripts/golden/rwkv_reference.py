"""RWKV-4 and RWKV-7 in float64 numpy, one token at a time, from the formulas; BlinkDL tensor names.

A second opinion on the official package, and the engine of the negative controls of the RWKV goldens.
"""

import math

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def layer_norm(x, weight, bias, eps):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * weight + bias


class Weights:
    """Weights in float64, vectors without their leading ones; layer(i) gives the names below blocks.i."""

    def __init__(self, tensors, prefix=""):
        self.tensors, self.prefix = tensors, prefix

    @classmethod
    def of(cls, tensors):
        return cls({k: v.astype(np.float64).reshape([n for n in v.shape if n != 1]) for k, v in tensors.items()})

    def layer(self, i):
        return Weights(self.tensors, f"blocks.{i}.")

    def __getitem__(self, name):
        return self.tensors[self.prefix + name]

    def norm(self, name, x, eps):
        return layer_norm(x, self[name + ".weight"], self[name + ".bias"], eps)

    def layers(self):
        return 1 + max(int(k.split(".")[1]) for k in self.tensors if k.startswith("blocks."))


def rwkv4_logits(weights, tokens, eps=1e-5):
    """-> [T, V]"""
    w = Weights.of(weights)
    hidden, inner = w["emb.weight"].shape[1], w["blocks.0.att.key.weight"].shape[0]
    # per layer: previous input of time mix and of channel mix, numerator, denominator, exponent
    state = [[np.zeros(hidden), np.zeros(hidden), np.zeros(inner), np.zeros(inner), np.full(inner, -1e30)] for _ in range(w.layers())]
    rows = []
    for token in tokens:
        x = w.layer(0).norm("ln0", w["emb.weight"][token], eps)
        for i, s in enumerate(state):
            p = w.layer(i)
            mix = lambda now, before, name: now * p[name] + before * (1 - p[name])
            a = p.norm("ln1", x, eps)
            k, v, r = (p[f"att.{n}.weight"] @ mix(a, s[0], f"att.time_mix_{n[0]}") for n in ("key", "value", "receptance"))
            top = np.maximum(s[4], p["att.time_first"] + k)
            old, new = np.exp(s[4] - top), np.exp(p["att.time_first"] + k - top)
            wkv = (old * s[2] + new * v) / (old * s[3] + new)
            decayed = s[4] - np.exp(p["att.time_decay"])
            top = np.maximum(decayed, k)
            old, new = np.exp(decayed - top), np.exp(k - top)
            s[0], s[2], s[3], s[4] = a, old * s[2] + new * v, old * s[3] + new, top
            x = x + p["att.output.weight"] @ (sigmoid(r) * wkv)
            f = p.norm("ln2", x, eps)
            k, r = (p[f"ffn.{n}.weight"] @ mix(f, s[1], f"ffn.time_mix_{n[0]}") for n in ("key", "receptance"))
            s[1] = f
            x = x + sigmoid(r) * (p["ffn.value.weight"] @ np.maximum(k, 0) ** 2)
        rows.append(w["head.weight"] @ w.norm("ln_out", x, eps))
    return np.stack(rows)


def rwkv7_logits(weights, tokens, eps=1e-5, group_eps=64e-5):
    """-> [T, V]; group_eps is that of the norm over each head."""
    heads, n = weights["blocks.0.att.r_k"].shape
    w = Weights.of(weights)
    hidden = heads * n
    state = [[np.zeros(hidden), np.zeros(hidden), np.zeros((heads, n, n))] for _ in range(w.layers())]
    rows = []
    for token in tokens:
        x = w.layer(0).norm("ln0", w["emb.weight"][token], eps)
        first = None
        for i, s in enumerate(state):
            p = w.layer(i)
            lora = lambda z, name, inner=lambda y: y: inner(z @ p[f"att.{name}1"]) @ p[f"att.{name}2"]
            a = p.norm("ln1", x, eps)
            xr, xw, xk, xv, xa, xg = (a + (s[0] - a) * p[f"att.x_{c}"] for c in "rwkvag")
            s[0] = a
            r, k, v = p["att.receptance.weight"] @ xr, p["att.key.weight"] @ xk, p["att.value.weight"] @ xv
            decay = np.exp(-math.exp(-0.5) * sigmoid(p["att.w0"] + lora(xw, "w", np.tanh)))
            if first is None:
                first = v
            else:
                v = v + (first - v) * sigmoid(p["att.v0"] + lora(xv, "v"))
            rate = sigmoid(p["att.a0"] + lora(xa, "a"))
            gate = lora(xg, "g", sigmoid)
            kk = (k * p["att.k_k"]).reshape(heads, n)
            kk = kk / np.maximum(np.sqrt((kk * kk).sum(-1, keepdims=True)), 1e-12)
            k = k * (1 + (rate - 1) * p["att.k_a"])
            r, k, v_, decay, rate = (z.reshape(heads, n) for z in (r, k, v, decay, rate))
            removed = np.einsum("hij,hj->hi", s[2], -kk)
            s[2] = s[2] * decay[:, None] + removed[:, :, None] * (kk * rate)[:, None] + v_[:, :, None] * k[:, None]
            y = np.einsum("hij,hj->hi", s[2], r)
            y = layer_norm(y, p["att.ln_x.weight"].reshape(heads, n), p["att.ln_x.bias"].reshape(heads, n), group_eps)
            y = y + (r * k * p["att.r_k"].reshape(heads, n)).sum(-1, keepdims=True) * v_
            x = x + p["att.output.weight"] @ (y.reshape(hidden) * gate)
            f = p.norm("ln2", x, eps)
            k = p["ffn.key.weight"] @ (f + (s[1] - f) * p["ffn.x_k"])
            s[1] = f
            x = x + p["ffn.value.weight"] @ np.maximum(k, 0) ** 2
        rows.append(w["head.weight"] @ w.norm("ln_out", x, eps))
    return np.stack(rows)
