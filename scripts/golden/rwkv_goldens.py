"""Goldens of RWKV-4 and RWKV-7. The oracle is the official `rwkv` package; for rwkv4-hf it is transformers, checked by the former."""

import numpy as np

from . import rwkv_reference, store
from .draw import Draw
from .llama_goldens import transformers_logits
from .rwkv_official import official_logits

TOLERANCE = 2e-5

# BlinkDL's names below blocks.i to those of transformers' RwkvForCausalLM
RWKV4_HF = {
    "emb.": "rwkv.embeddings.",
    "blocks.": "rwkv.blocks.",
    ".ln0.": ".pre_ln.",
    ".att.": ".attention.",
    ".ffn.": ".feed_forward.",
    "time_mix_k": "time_mix_key",
    "time_mix_v": "time_mix_value",
    "time_mix_r": "time_mix_receptance",
    "ln_out.": "rwkv.ln_out.",
}

# and to those of flash-linear-attention's RWKV7ForCausalLM
RWKV7_HUB = {
    "emb.": "model.embeddings.",
    "head.": "lm_head.",
    "ln_out.": "model.norm.",
    "blocks.": "model.layers.",
    ".ln0.": ".pre_norm.",
    ".ln1.": ".attn_norm.",
    ".ln2.": ".ffn_norm.",
    ".att.ln_x.": ".attn.g_norm.",
    ".att.receptance.": ".attn.r_proj.",
    ".att.key.": ".attn.k_proj.",
    ".att.value.": ".attn.v_proj.",
    ".att.output.": ".attn.o_proj.",
    ".att.": ".attn.",
}


def renamed(name, table):
    for old, new in table.items():
        name = name.replace(old, new)
    return name


def draw_norm(w, draw, name, size):
    w[name + ".weight"], w[name + ".bias"] = draw.norm(size), draw.normal(size, scale=0.3)


def draw_rwkv4(draw, layers, hidden, inner, ffn, vocab):
    w = {"emb.weight": draw.embedding(vocab, hidden, tiny=3e-3)}
    for i in range(layers):
        p = f"blocks.{i}."
        for norm in ("ln0", "ln1", "ln2") if i == 0 else ("ln1", "ln2"):
            draw_norm(w, draw, p + norm, hidden)
        w[p + "att.time_decay"] = draw.uniform(-5, 1, inner)
        w[p + "att.time_first"] = draw.uniform(-1, 1.5, inner)
        for n in "kvr":
            w[p + f"att.time_mix_{n}"] = draw.uniform(0, 1, 1, 1, hidden)
        for n, gain in (("key", 1.5), ("value", 1.0), ("receptance", 1.0)):
            w[p + f"att.{n}.weight"] = draw.matrix(inner, hidden, gain)
        w[p + "att.output.weight"] = draw.matrix(hidden, inner, 1.5)
        for n in "kr":
            w[p + f"ffn.time_mix_{n}"] = draw.uniform(0, 1, 1, 1, hidden)
        w[p + "ffn.key.weight"] = draw.matrix(ffn, hidden)
        w[p + "ffn.receptance.weight"] = draw.matrix(hidden, hidden)
        w[p + "ffn.value.weight"] = draw.matrix(hidden, ffn)
    draw_norm(w, draw, "ln_out", hidden)
    w["head.weight"] = draw.matrix(vocab, hidden)
    return w


def draw_rwkv7(draw, layers, heads, ranks, ffn, vocab, value_gain):
    """ranks: of the low-rank pairs w, a, v, g."""
    n, hidden = 64, heads * 64
    w = {"emb.weight": draw.embedding(vocab, hidden, tiny=3e-3)}
    for i in range(layers):
        p = f"blocks.{i}."
        for norm in ("ln0", "ln1", "ln2") if i == 0 else ("ln1", "ln2"):
            draw_norm(w, draw, p + norm, hidden)
        for c in "rwkvag":
            w[p + f"att.x_{c}"] = draw.uniform(0, 1, 1, 1, hidden)
        for c, rank in zip("wavg", ranks):
            if c != "g" and not (c == "v" and i == 0):
                low, high = (-6, 2) if c == "w" else (-1.5, 1.5)
                w[p + f"att.{c}0"] = draw.uniform(low, high, 1, 1, hidden)
            if not (c == "v" and i == 0):
                w[p + f"att.{c}1"] = draw.normal(hidden, rank, scale=1 / np.sqrt(hidden))
                w[p + f"att.{c}2"] = draw.normal(rank, hidden, scale=(3 if c == "g" else 1) / np.sqrt(rank))
        w[p + "att.k_k"] = draw.uniform(0.5, 1.2, 1, 1, hidden)
        w[p + "att.k_a"] = draw.uniform(0.5, 1.5, 1, 1, hidden)
        w[p + "att.r_k"] = draw.normal(heads, n, scale=0.2)
        for name, gain in (("receptance", 1.0), ("key", 1.0), ("value", value_gain), ("output", 1.0)):
            w[p + f"att.{name}.weight"] = draw.matrix(hidden, hidden, gain)
        draw_norm(w, draw, p + "att.ln_x", hidden)
        w[p + "ffn.x_k"] = draw.uniform(0, 1, 1, 1, hidden)
        w[p + "ffn.key.weight"] = draw.matrix(ffn, hidden)
        w[p + "ffn.value.weight"] = draw.matrix(hidden, ffn)
    draw_norm(w, draw, "ln_out", hidden)
    w["head.weight"] = draw.matrix(vocab, hidden)
    return w


def to_hub(weights):
    """BlinkDL's names and layouts -> flash-linear-attention's: the low-rank matrices are transposed, w0, a0, v0 are biases."""
    hub = {}
    for name, value in weights.items():
        stem, last = name.rsplit(".", 1)
        if len(last) == 2 and last[0] in "wavg" and last[1] in "012":
            part = {"0": "2.bias", "1": "0.weight", "2": "2.weight"}[last[1]]
            value = value.reshape(-1) if last[1] == "0" else value.T
            name = f"{stem}.{last[0]}_lora.lora.{part}"
        elif last in ("k_k", "k_a", "x_k") and (last != "x_k" or ".ffn." in name):
            value = value.reshape(-1)
        hub[renamed(name, RWKV7_HUB)] = np.ascontiguousarray(value)
    return hub


def to_bfloat16(weights):
    """The nearest bfloat16 of each number, kept in F32."""
    rounded = {}
    for name, value in weights.items():
        bits = value.view(np.uint32)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
        rounded[name] = bits.view(np.float32)
    return rounded


def checked(version, weights, tokens):
    logits = official_logits(version, weights, tokens)
    reference = rwkv_reference.rwkv4_logits if version == 4 else rwkv_reference.rwkv7_logits
    difference = np.abs(reference(weights, tokens) - logits).max()
    assert difference < TOLERANCE, f"the official package and the float64 reference differ by {difference}"
    return logits, f"logits std {logits.std():.2f}, float64 reference differs by {difference:.1e}"


def rwkv4_hf():
    """-> (config, weights under BlinkDL's names, tokens)"""
    layers, hidden, ffn, vocab, count = 3, 48, 96, 97, 24
    config = {
        "architectures": ["RwkvForCausalLM"],
        "model_type": "rwkv",
        "vocab_size": vocab,
        "context_length": 256,
        "hidden_size": hidden,
        "attention_hidden_size": hidden,
        "intermediate_size": ffn,
        "num_hidden_layers": layers,
        "layer_norm_epsilon": 1e-5,
        "rescale_every": 0,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
    }
    draw = Draw("rwkv4-hf")
    weights = draw_rwkv4(draw, layers, hidden, hidden, ffn, vocab)
    return config, weights, draw.tokens(vocab, count)


def make_rwkv4_hf(out):
    config, weights, tokens = rwkv4_hf()
    folder = out / "rwkv4-hf"
    hf = {renamed(k, RWKV4_HF): v for k, v in weights.items()}
    store.write_golden(folder, config, hf, tokens, np.zeros((len(tokens), config["vocab_size"])))
    logits = transformers_logits(folder, tokens)
    official, report = checked(4, weights, tokens)
    difference = np.abs(official - logits).max()
    assert difference < TOLERANCE, f"transformers and the official package differ by {difference}"
    store.write_golden(folder, config, hf, tokens, logits)
    return f"{report}, official package by {difference:.1e}"


def make_rwkv4_uneven(out):
    """Attention wider than the model; every weight is a bfloat16 number, so that model.pth (BF16) holds the same model."""
    import torch

    vocab, count = 89, 26
    draw = Draw("rwkv4-uneven")
    weights = to_bfloat16(draw_rwkv4(draw, 2, 48, 72, 132, vocab))
    tokens = draw.tokens(vocab, count)
    logits, report = checked(4, weights, tokens)
    store.write_golden(out / "rwkv4-uneven", None, weights, tokens, logits)
    torch.save({k: torch.from_numpy(v).bfloat16() for k, v in weights.items()}, out / "rwkv4-uneven" / "model.pth")
    return report


def make_rwkv7_three_heads(out):
    """Small values, so that the epsilon of the norm over heads decides; 72 tokens, so that chunks of 16 and 64 end inside."""
    vocab, count = 53, 72
    draw = Draw("rwkv7-three-heads")
    weights = draw_rwkv7(draw, 2, 3, (8, 4, 4, 8), 48, vocab, 0.05)
    tokens = draw.tokens(vocab, count)
    logits, report = checked(7, weights, tokens)
    store.write_golden(out / "rwkv7-three-heads", None, weights, tokens, logits)
    return report


def rwkv7_hub():
    """-> (config, weights under BlinkDL's names, tokens)"""
    heads, layers, ffn, vocab, count = 2, 2, 64, 59, 24
    ranks = dict(zip(("decay", "a", "v", "gate"), (8, 12, 4, 16)))
    draw = Draw("rwkv7-hub")
    weights = draw_rwkv7(draw, layers, heads, tuple(ranks.values()), ffn, vocab, 1.0)
    config = {
        "architectures": ["RWKV7ForCausalLM"],
        "model_type": "rwkv7",
        "attn_mode": "chunk",
        "attn": None,
        "hidden_size": heads * 64,
        "hidden_ratio": ffn / (heads * 64),
        "intermediate_size": ffn,
        "num_hidden_layers": layers,
        "head_dim": 64,
        "num_heads": heads,
        **{f"{part}_low_rank_dim": rank for part, rank in ranks.items()},
        "hidden_act": "sqrelu",
        "max_position_embeddings": 2048,
        "norm_first": True,
        "norm_bias": True,
        "norm_eps": 1e-5,
        "fuse_norm": False,
        "value_dim": [heads * 64] * layers,
        "vocab_size": vocab,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
    }
    return config, weights, draw.tokens(vocab, count)


def make_rwkv7_hub(out):
    config, weights, tokens = rwkv7_hub()
    logits, report = checked(7, weights, tokens)
    store.write_golden(out / "rwkv7-hub", config, to_hub(weights), tokens, logits)
    return report


RECIPES = {
    "rwkv4-hf": make_rwkv4_hf,
    "rwkv4-uneven": make_rwkv4_uneven,
    "rwkv7-three-heads": make_rwkv7_three_heads,
    "rwkv7-hub": make_rwkv7_hub,
}
