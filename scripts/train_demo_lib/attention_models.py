"""The llama and YOCO forward passes in PyTorch, for training: whole sequences in parallel.
A model is a dictionary of tensors under their checkpoint names. tokens [batch, length]."""

import math

import torch
import torch.nn.functional as F


def rms_norm(x, weight, eps):
    return F.rms_norm(x.float(), x.shape[-1:], weight, eps)


def rope_angles(length, head_dim, theta, exponents_to_one):
    # yoco: exponents linspace(0, 1, head_dim/2); llama: 2i / head_dim.
    half = head_dim // 2
    exponent = torch.linspace(0, 1, half) if exponents_to_one else torch.arange(half) / half
    angle = torch.arange(length)[:, None] * theta**-exponent
    return angle.cos(), angle.sin()  # [length, half]


def rotate(x, angles, interleaved):  # x [batch, heads, length, head_dim]
    cos, sin = angles
    a, b = (x[..., 0::2], x[..., 1::2]) if interleaved else x.float().chunk(2, -1)
    parts = (a * cos - b * sin, b * cos + a * sin)
    return torch.stack(parts, -1).flatten(-2) if interleaved else torch.cat(parts, -1)


def split_heads(x, heads):
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x):
    return x.transpose(1, 2).flatten(-2)


def attend(q, k, v, window=None):
    """softmax(q kT / sqrt(head_dim)) v, causal; query head h reads kv head h // group."""
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    seen = None
    if window is not None:
        at = torch.arange(q.shape[2])
        seen = (at[None, :] <= at[:, None]) & (at[None, :] > at[:, None] - window)
    with torch.autocast("cpu", enabled=False):  # in fp32 the CPU's attention is faster than in bf16
        return F.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=seen,
                                              is_causal=seen is None)


def swiglu(p, prefix, z):
    inner = F.silu(F.linear(z, p[prefix + "gate_proj.weight"]))
    return F.linear(inner * F.linear(z, p[prefix + "up_proj.weight"]),
                    p[prefix + "down_proj.weight"])


def llama_shapes(c):
    d, f, hd, v = c["hidden_size"], c["intermediate_size"], c["head_dim"], c["vocab_size"]
    q, kv = c["num_attention_heads"] * hd, c["num_key_value_heads"] * hd
    shapes = {"model.embed_tokens.weight": (v, d)}
    for i in range(c["num_hidden_layers"]):
        at = f"model.layers.{i}."
        shapes |= {at + "input_layernorm.weight": (d,), at + "self_attn.q_proj.weight": (q, d),
                   at + "self_attn.k_proj.weight": (kv, d), at + "self_attn.v_proj.weight": (kv, d),
                   at + "self_attn.o_proj.weight": (d, q),
                   at + "post_attention_layernorm.weight": (d,),
                   at + "mlp.gate_proj.weight": (f, d), at + "mlp.up_proj.weight": (f, d),
                   at + "mlp.down_proj.weight": (d, f)}
    shapes["model.norm.weight"] = (d,)
    if not c["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (v, d)
    return shapes


def llama_forward(c, p, tokens):
    eps = c["rms_norm_eps"]
    angles = rope_angles(tokens.shape[1], c["head_dim"], c["rope_theta"], False)
    x = p["model.embed_tokens.weight"][tokens]
    for i in range(c["num_hidden_layers"]):
        at = f"model.layers.{i}."
        z = rms_norm(x, p[at + "input_layernorm.weight"], eps)
        project = lambda name, heads: split_heads(
            F.linear(z, p[f"{at}self_attn.{name}_proj.weight"]), heads)
        q = rotate(project("q", c["num_attention_heads"]), angles, False)
        k = rotate(project("k", c["num_key_value_heads"]), angles, False)
        y = attend(q, k, project("v", c["num_key_value_heads"]))
        x = x + F.linear(merge_heads(y), p[at + "self_attn.o_proj.weight"])
        z = rms_norm(x, p[at + "post_attention_layernorm.weight"], eps)
        x = x + swiglu(p, at + "mlp.", z)
    x = rms_norm(x, p["model.norm.weight"], eps)
    return F.linear(x, p.get("lm_head.weight", p["model.embed_tokens.weight"]))


def yoco_shapes(c):
    d, f, v = c["hidden_size"], c["intermediate_size"], c["vocab_size"]
    self_attn, cross_attn = c["self_decoder_attn"], c["cross_decoder_attn"]
    kv = d // cross_attn["num_heads"] * cross_attn["num_kv_heads"]
    retention = self_attn["type"] == "gated_retention"
    mlp = {"mlp_norm.weight": (d,), "mlp.gate_proj.weight": (f, d), "mlp.up_proj.weight": (f, d),
           "mlp.down_proj.weight": (d, f)}
    layer = {"attn_norm.weight": (d,), **{f"attn.{n}_proj.weight": (d, d) for n in "qkvo"}}
    if retention:
        layer |= {"attn.g_proj.weight": (d, d), "attn.gk_proj.weight": (self_attn["num_heads"], d)}
    cross = {"attn_norm.weight": (d,), **{f"attn.{n}_proj.weight": (d, d) for n in "qo"}}
    shapes = {"model.embeddings.weight": (v, d)}
    for i in range(c["num_self_decoder_layers"]):
        shapes |= {f"model.self_layers.{i}.{n}": s for n, s in {**layer, **mlp}.items()}
    builder = "model.shared_kv_builder."
    shapes |= {builder + "kv_norm.weight": (d,), builder + "k_proj.weight": (kv, d),
               builder + "v_proj.weight": (kv, d)}
    for i in range(c["num_hidden_layers"] - c["num_self_decoder_layers"]):
        shapes |= {f"model.cross_layers.{i}.{n}": s for n, s in {**cross, **mlp}.items()}
    return {**shapes, "model.norm.weight": (d,), "lm_head.weight": (v, d)}


def gated_retention(q, k, v, log_decay, eps, chunk=128):
    """o_t = q_t S_t with S_t = exp(log_decay_t) S_{t-1} + k_tT v_t / sqrt(hd), then an RMS norm per
    head without weight. In chunks: inside one with a mask of decays, between them the recurrence.
    q, k, v [batch, heads, length, hd], log_decay [batch, heads, length]."""
    chunk = min(chunk, q.shape[2])
    cut = lambda x: x.unflatten(2, (-1, chunk))
    q, k, v, b = cut(q), cut(k) / math.sqrt(q.shape[-1]), cut(v), cut(log_decay.float()).cumsum(-1)
    future = torch.ones(chunk, chunk, dtype=torch.bool).triu(1)
    decay = (b[..., :, None] - b[..., None, :]).masked_fill(future, -math.inf).exp()
    inside = ((q @ k.transpose(-1, -2)) * decay) @ v
    whole = b[..., -1:].exp()
    add = (k * (b[..., -1:] - b).exp()[..., None]).transpose(-1, -2) @ v
    state, states = torch.zeros_like(add[:, :, 0]), []
    for n in range(add.shape[2]):
        states.append(state)
        state = whole[:, :, n, :, None] * state + add[:, :, n]
    o = inside + (q * b.exp()[..., None]) @ torch.stack(states, 2)
    return F.rms_norm(o.flatten(2, 3).float(), v.shape[-1:], None, eps)


def yoco_forward(c, p, tokens):
    d, eps, length = c["hidden_size"], c["norm_eps"], tokens.shape[1]
    self_attn, cross_attn = c["self_decoder_attn"], c["cross_decoder_attn"]
    heads, cross_heads = self_attn["num_heads"], cross_attn["num_heads"]
    angles = rope_angles(length, d // heads, self_attn["rope_theta"], True)
    x = p["model.embeddings.weight"][tokens] * math.sqrt(d)
    for i in range(c["num_self_decoder_layers"]):
        at = f"model.self_layers.{i}."
        z = rms_norm(x, p[at + "attn_norm.weight"], eps)
        project = lambda name: F.linear(z, p[f"{at}attn.{name}_proj.weight"])
        q = rotate(split_heads(project("q"), heads), angles, True)
        k = rotate(split_heads(project("k"), heads), angles, True)
        v = split_heads(project("v"), heads)
        if self_attn["type"] == "gated_retention":
            log_decay = F.logsigmoid(project("gk").float()) / self_attn["gate_logit_normalizer"]
            y = gated_retention(q, k, v, log_decay.transpose(1, 2), eps)
            y = F.silu(project("g")) * merge_heads(y)
        else:
            y = merge_heads(attend(q, k, v, self_attn["window_size"]))
        x = x + F.linear(y, p[at + "attn.o_proj.weight"])
        x = x + swiglu(p, at + "mlp.", rms_norm(x, p[at + "mlp_norm.weight"], eps))
    builder = "model.shared_kv_builder."
    angles = rope_angles(length, d // cross_heads, cross_attn["rope_theta"], True)
    n = rms_norm(x, p[builder + "kv_norm.weight"], eps)
    shared = lambda name: split_heads(F.linear(n, p[f"{builder}{name}_proj.weight"]),
                                      cross_attn["num_kv_heads"])
    k, v = rotate(shared("k"), angles, True), shared("v")
    for i in range(c["num_hidden_layers"] - c["num_self_decoder_layers"]):
        at = f"model.cross_layers.{i}."
        z = rms_norm(x, p[at + "attn_norm.weight"], eps)
        q = split_heads(F.linear(z, p[at + "attn.q_proj.weight"]), cross_heads)
        q = rotate(q, angles, True)
        x = x + F.linear(merge_heads(attend(q, k, v)), p[at + "attn.o_proj.weight"])
        x = x + swiglu(p, at + "mlp.", rms_norm(x, p[at + "mlp_norm.weight"], eps))
    return F.linear(rms_norm(x, p["model.norm.weight"], eps), p["lm_head.weight"])


def initial_value(name, shape, c):
    """Linear layers N(0, 1/fan_in), those that write to the residual stream 0, norms 1."""
    if len(shape) == 1:
        return torch.ones(shape)
    if name.endswith(("o_proj.weight", "down_proj.weight")):
        return torch.zeros(shape)
    if "embed" in name:  # YOCO multiplies by sqrt(d) on the way in
        weight = torch.randn(shape) * (0.02 if c["model_type"] == "llama" else 0.05)
        weight[:, 0] = 4 * weight.std()  # the constant that look_back reads
        return weight
    weight = torch.randn(shape) * (0.3 if name.startswith("lm_head") else 1.0) / math.sqrt(shape[1])
    first_layer = name.startswith(("model.layers.0.", "model.self_layers.0."))
    return look_back(name, weight, c) if first_layer else weight


def look_back(name, weight, c):
    """Makes the heads of the first layer begin as heads that look 1, 1, 2, 2, 3, 3... tokens back,
    from the constant channel 0 alone: a query turned against its key by the RoPE angle of that
    distance. Small models otherwise spend a third of the training finding the previous token."""
    llama = c["model_type"] == "llama"
    heads = c["num_attention_heads"] if llama else c["self_decoder_attn"]["num_heads"]
    hd = c["head_dim"] if llama else c["hidden_size"] // heads
    if name.endswith("gk_proj.weight"):  # retention has no softmax: it forgets fast instead
        weight[:, 0] = -16 / 4 * torch.tensor([2.0**-i for i in range(heads)])
        return weight
    if not name.endswith(("q_proj.weight", "k_proj.weight")):
        return weight
    by_head = weight.view(-1, hd, weight.shape[1])
    for h, head in enumerate(by_head):
        back = 1 + h // 2 if name.endswith("q_proj.weight") else 0
        cos, sin = rope_angles(max(back, 1) + 1, hd, 10000.0, not llama)
        # R(t) q . R(s) k is largest at t - s = back when q = R(-back) k.
        parts = (cos[back], -sin[back])
        head *= 0.1
        head[:, 0] = 1.25 * (torch.cat(parts) if llama else torch.stack(parts, -1).flatten())
    return weight


