"""The four families in numpy, fp32, one token at a time from an empty state: what the runtime is
held against. Written from the formulas, apart from the PyTorch code that trains: an error in one
shows as a disagreement. `model(tensors, config).step(token)` returns the logits [vocab]."""

import json

import numpy as np


def read_safetensors(path):
    with open(path, "rb") as file:
        data = file.read()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        piece = data[start + entry["data_offsets"][0]:start + entry["data_offsets"][1]]
        if entry["dtype"] == "BF16":  # the upper half of an fp32
            values = (np.frombuffer(piece, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            values = np.frombuffer(piece, {"F32": "<f4", "I64": "<i8"}[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"])
    return tensors


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def rms(x, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(eps))


def layer_norm(x, weight, bias, eps=1e-5):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + np.float32(eps)) * weight + bias


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attention(q, keys, values):
    """q [heads, hd]; keys, values: one [kv_heads, hd] per visible position."""
    k, v = np.stack(keys, 1), np.stack(values, 1)  # [kv_heads, positions, hd]
    group = len(q) // len(k)
    out = [softmax(k[h // group] @ q[h] / np.sqrt(np.float32(q.shape[1]))) @ v[h // group]
           for h in range(len(q))]
    return np.concatenate(out)


class Llama:
    def __init__(self, tensors, config):
        self.p, self.c, self.position = tensors, config, 0
        self.keys = [[] for _ in range(config["num_hidden_layers"])]
        self.values = [[] for _ in range(config["num_hidden_layers"])]

    def rope(self, x):  # halves; frequency i is theta^(-2i/hd)
        half = x.shape[1] // 2
        angle = self.position * self.c["rope_theta"] ** (-np.arange(half) / half)
        cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
        a, b = x[:, :half], x[:, half:]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], 1)

    def step(self, token):
        p, eps = self.p, self.c["rms_norm_eps"]
        x = p["model.embed_tokens.weight"][token]
        for i in range(self.c["num_hidden_layers"]):
            w = lambda name: p[f"model.layers.{i}.{name}.weight"]
            z = rms(x, eps) * w("input_layernorm")
            heads = lambda name: (w(f"self_attn.{name}_proj") @ z).reshape(-1, self.c["head_dim"])
            self.keys[i].append(self.rope(heads("k")))
            self.values[i].append(heads("v"))
            y = attention(self.rope(heads("q")), self.keys[i], self.values[i])
            x = x + w("self_attn.o_proj") @ y
            z = rms(x, eps) * w("post_attention_layernorm")
            x = x + w("mlp.down_proj") @ (silu(w("mlp.gate_proj") @ z) * (w("mlp.up_proj") @ z))
        self.position += 1
        head = "model.embed_tokens" if self.c["tie_word_embeddings"] else "lm_head"
        return p[head + ".weight"] @ (rms(x, eps) * p["model.norm.weight"])


class Yoco:
    def __init__(self, tensors, config):
        self.p, self.c, self.position = tensors, config, 0
        layers = config["num_self_decoder_layers"]
        self.keys, self.values = [[] for _ in range(layers)], [[] for _ in range(layers)]
        self.shared_keys, self.shared_values = [], []
        heads = config["self_decoder_attn"]["num_heads"]
        hd = config["hidden_size"] // heads
        self.retention = np.zeros((layers, heads, hd, hd), np.float32)  # [key, value]

    def rope(self, x, theta):  # pairs (2i, 2i+1); frequency i is theta^(-i/(hd/2-1))
        half = x.shape[1] // 2
        angle = self.position * theta ** (-np.arange(half) / (half - 1))
        cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
        out = np.empty_like(x)
        out[:, 0::2] = x[:, 0::2] * cos - x[:, 1::2] * sin
        out[:, 1::2] = x[:, 1::2] * cos + x[:, 0::2] * sin
        return out

    def mlp(self, x, at):
        w = lambda name: self.p[f"{at}.{name}.weight"]
        z = rms(x, self.c["norm_eps"]) * w("mlp_norm")
        inner = silu(w("mlp.gate_proj") @ z) * (w("mlp.up_proj") @ z)
        return x + w("mlp.down_proj") @ inner

    def retain(self, i, z, q, k, v):
        attn = self.c["self_decoder_attn"]
        gate = self.p[f"model.self_layers.{i}.attn.gk_proj.weight"] @ z
        decay = sigmoid(gate) ** np.float32(1 / attn["gate_logit_normalizer"])  # one per head
        k = k / np.sqrt(np.float32(k.shape[1]))
        self.retention[i] = decay[:, None, None] * self.retention[i] + k[:, :, None] * v[:, None, :]
        y = rms(np.einsum("hk,hkv->hv", q, self.retention[i]), self.c["norm_eps"]).reshape(-1)
        return silu(self.p[f"model.self_layers.{i}.attn.g_proj.weight"] @ z) * y

    def step(self, token):
        p, c, eps = self.p, self.c, self.c["norm_eps"]
        own, cross = c["self_decoder_attn"], c["cross_decoder_attn"]
        x = p["model.embeddings.weight"][token] * np.sqrt(np.float32(c["hidden_size"]))
        for i in range(c["num_self_decoder_layers"]):
            at = f"model.self_layers.{i}"
            w = lambda name: p[f"{at}.{name}.weight"]
            z = rms(x, eps) * w("attn_norm")
            q, k, v = ((w(f"attn.{n}_proj") @ z).reshape(own["num_heads"], -1) for n in "qkv")
            q, k = self.rope(q, own["rope_theta"]), self.rope(k, own["rope_theta"])
            if own["type"] == "gated_retention":
                y = self.retain(i, z, q, k, v)
            else:
                self.keys[i].append(k)
                self.values[i].append(v)
                y = attention(q, self.keys[i][-own["window_size"]:],
                              self.values[i][-own["window_size"]:])
            x = self.mlp(x + w("attn.o_proj") @ y, at)
        n = rms(x, eps) * p["model.shared_kv_builder.kv_norm.weight"]
        shared = lambda name: (p[f"model.shared_kv_builder.{name}_proj.weight"] @ n).reshape(
            cross["num_kv_heads"], -1)
        self.shared_keys.append(self.rope(shared("k"), cross["rope_theta"]))
        self.shared_values.append(shared("v"))
        for i in range(c["num_hidden_layers"] - c["num_self_decoder_layers"]):
            at = f"model.cross_layers.{i}"
            w = lambda name: p[f"{at}.{name}.weight"]
            q = w("attn.q_proj") @ (rms(x, eps) * w("attn_norm"))
            q = self.rope(q.reshape(cross["num_heads"], -1), cross["rope_theta"])
            x = x + w("attn.o_proj") @ attention(q, self.shared_keys, self.shared_values)
            x = self.mlp(x, at)
        self.position += 1
        return p["lm_head.weight"] @ (rms(x, eps) * p["model.norm.weight"])


class Rwkv:
    """The embedding with ln0 and the head, which both versions share."""

    def __init__(self, tensors, config):
        self.p = {name: tensor.reshape(-1) if tensor.shape[:2] == (1, 1) else tensor
                  for name, tensor in tensors.items()}
        d = tensors["emb.weight"].shape[1]
        self.layers = 1 + max(int(n.split(".")[1]) for n in tensors if n.startswith("blocks."))
        self.att_x, self.ffn_x = np.zeros((2, self.layers, d), np.float32)

    def norm(self, name, x):
        return layer_norm(x, self.p[name + ".weight"], self.p[name + ".bias"])

    def step(self, token):
        x = self.norm("blocks.0.ln0", self.p["emb.weight"][token])
        carry = {}
        for i in range(self.layers):
            w = lambda name: self.p[f"blocks.{i}.{name}"]
            a = self.norm(f"blocks.{i}.ln1", x)
            x = x + self.time_mix(i, w, a, self.att_x[i], carry)
            f = self.norm(f"blocks.{i}.ln2", x)
            x = x + self.channel_mix(w, f, self.ffn_x[i])
            self.att_x[i], self.ffn_x[i] = a, f
        return self.p["head.weight"] @ self.norm("ln_out", x)


class Rwkv4(Rwkv):
    def __init__(self, tensors, config):
        super().__init__(tensors, config)
        self.num, self.den = np.zeros((2, *self.att_x.shape), np.float32)
        self.top = np.full(self.att_x.shape, -1e30, np.float32)

    def time_mix(self, i, w, a, before, carry):
        mix = lambda n: a * w("att.time_mix_" + n) + before * (1 - w("att.time_mix_" + n))
        r = sigmoid(w("att.receptance.weight") @ mix("r"))
        k, v = w("att.key.weight") @ mix("k"), w("att.value.weight") @ mix("v")
        u, decay = w("att.time_first"), -np.exp(w("att.time_decay"))
        top = np.maximum(self.top[i], u + k)
        old, new = np.exp(self.top[i] - top), np.exp(u + k - top)
        wkv = (old * self.num[i] + new * v) / (old * self.den[i] + new)
        top = np.maximum(self.top[i] + decay, k)
        old, new = np.exp(self.top[i] + decay - top), np.exp(k - top)
        self.num[i], self.den[i] = old * self.num[i] + new * v, old * self.den[i] + new
        self.top[i] = top
        return w("att.output.weight") @ (r * wkv)

    def channel_mix(self, w, f, before):
        mix = lambda n: f * w("ffn.time_mix_" + n) + before * (1 - w("ffn.time_mix_" + n))
        k = np.maximum(w("ffn.key.weight") @ mix("k"), 0) ** 2
        return sigmoid(w("ffn.receptance.weight") @ mix("r")) * (w("ffn.value.weight") @ k)


class Rwkv7(Rwkv):
    def __init__(self, tensors, config):
        super().__init__(tensors, config)
        heads, n = tensors["blocks.0.att.r_k"].shape
        self.state = np.zeros((self.layers, heads, n, n), np.float32)  # [value, key]

    def time_mix(self, i, w, a, before, carry):
        x = {n: a + (before - a) * w("att.x_" + n) for n in "rwkvag"}
        r, k, v = (w(f"att.{name}.weight") @ x[n] for name, n in
                   (("receptance", "r"), ("key", "k"), ("value", "v")))
        decay = np.exp(np.float32(-np.exp(-0.5)) * sigmoid(
            w("att.w0") + np.tanh(x["w"] @ w("att.w1")) @ w("att.w2")))
        if i == 0:
            carry["v"] = v
        else:
            share = sigmoid(w("att.v0") + (x["v"] @ w("att.v1")) @ w("att.v2"))
            v = v + (carry["v"] - v) * share
        rate = sigmoid(w("att.a0") + (x["a"] @ w("att.a1")) @ w("att.a2"))
        gate = sigmoid(x["g"] @ w("att.g1")) @ w("att.g2")
        heads = lambda z: z.reshape(w("att.r_k").shape)
        kk = heads(k * w("att.k_k"))
        kk = kk / np.maximum(np.linalg.norm(kk, axis=1, keepdims=True), np.float32(1e-12))
        k = heads(k * (1 + (rate - 1) * w("att.k_a")))
        r, v, decay, rate, s = heads(r), heads(v), heads(decay), heads(rate), self.state[i]
        removed = np.einsum("hij,hj->hi", s, -kk)
        s = (s * decay[:, None, :] + removed[:, :, None] * (kk * rate)[:, None, :]
             + v[:, :, None] * k[:, None, :])
        self.state[i] = s
        y = layer_norm(np.einsum("hij,hj->hi", s, r), heads(w("att.ln_x.weight")),
                       heads(w("att.ln_x.bias")), 64e-5)
        y = y + (r * k * w("att.r_k")).sum(1, keepdims=True) * v
        return w("att.output.weight") @ (y.reshape(-1) * gate)

    def channel_mix(self, w, f, before):
        k = w("ffn.key.weight") @ (f + (before - f) * w("ffn.x_k"))
        return w("ffn.value.weight") @ np.maximum(k, 0) ** 2


FAMILIES = {"llama": Llama, "yoco": Yoco, "rwkv4": Rwkv4, "rwkv7": Rwkv7}


def loss(tensors, config, tokens):
    """Mean negative log-likelihood of tokens 1..T-1, each given all tokens before it, in nats."""
    model, total = FAMILIES[config["model_type"]](tensors, config), 0.0
    for token, following in zip(tokens[:-1], tokens[1:]):
        logits = model.step(token).astype(np.float64)
        total += np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[following]
    return total / (len(tokens) - 1)


def sample(tensors, config, tokens, count, temperature, seed, stop):
    """Continues `tokens`, which is not empty, by at most `count` tokens; ends before `stop`."""
    model, random, out = FAMILIES[config["model_type"]](tensors, config), np.random.default_rng(
        seed), []
    for token in tokens:
        logits = model.step(token)
    while len(out) < count:
        chances = softmax(logits.astype(np.float64) / temperature)
        token = int(random.choice(len(chances), p=chances))
        if token == stop:
            break
        out.append(token)
        logits = model.step(token)
    return out
