"""YOCO goldens of other sizes, from the float64 reference that agrees with microsoft/unilm's own modules."""

import numpy as np

from . import store, yoco_reference
from .draw import Draw


def yoco(hidden, self_layers, cross_layers, ffn, vocab, mix, cross_heads, kv_heads):
    rope = {"rope_theta": 10000.0, "rope_inv_freq": "yoco"}
    return {
        "architectures": ["YOCOForCausalLM"],
        "model_type": "yoco",
        "hidden_size": hidden,
        "num_hidden_layers": self_layers + cross_layers,
        "num_self_decoder_layers": self_layers,
        "intermediate_size": ffn,
        "hidden_act": "swish",
        "vocab_size": vocab,
        "norm_eps": 1e-5,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": False,
        "self_decoder_attn": mix | rope,
        "cross_decoder_attn": {"num_heads": cross_heads, "num_kv_heads": kv_heads, "qkv_bias": False, "qk_norm": False} | rope,
    }


def retention(heads):
    return {"type": "gated_retention", "num_heads": heads, "gate_logit_normalizer": 16}


def window(heads, size):
    return {"type": "swa", "num_heads": heads, "window_size": size, "qkv_bias": False}


# name: (config, tokens, every how many tokens a row of logits is kept)
GOLDENS = {
    # heads of 16 in the self-decoder, of 12 in the cross-decoder; 3 + 2 layers; 101 rows of vocabulary
    "yoco-gret-uneven": (yoco(48, 3, 2, 60, 101, retention(3), 4, 2), 40, 1),
    "yoco-gret-600": (yoco(32, 2, 2, 64, 61, retention(4), 2, 1), 600, 25),
    "yoco-swa-600": (yoco(32, 2, 2, 64, 61, window(2, 40), 4, 2), 600, 25),
}


def draw_weights(name, config):
    draw, hidden, ffn = Draw(name), config["hidden_size"], config["intermediate_size"]
    mix, cross = config["self_decoder_attn"], config["cross_decoder_attn"]
    kv = hidden // cross["num_heads"] * cross["num_kv_heads"]
    retains = mix["type"] == "gated_retention"
    # the model multiplies embeddings by sqrt(hidden)
    w = {"model.embeddings.weight": draw.embedding(config["vocab_size"], hidden, 1 / np.sqrt(hidden), tiny=3e-3)}

    def feed_forward(p):
        w[p + "mlp_norm.weight"] = draw.norm(hidden)
        for part, rows, columns in (("gate", ffn, hidden), ("up", ffn, hidden), ("down", hidden, ffn)):
            w[p + f"mlp.{part}_proj.weight"] = draw.matrix(rows, columns, 1.5)

    for i in range(config["num_self_decoder_layers"]):
        p = f"model.self_layers.{i}."
        w[p + "attn_norm.weight"] = draw.norm(hidden)
        for part, gain in (("q", 1.2), ("k", 1.2), ("v", 1.0), ("o", 1.0)):
            # tiny values in the last retention layer: otherwise the norm over each head cancels 1 / sqrt(hd) and hides eps
            tiny = retains and part == "v" and i == config["num_self_decoder_layers"] - 1
            w[p + f"attn.{part}_proj.weight"] = draw.matrix(hidden, hidden, 0.01 if tiny else gain)
        if retains:
            w[p + "attn.g_proj.weight"] = draw.matrix(hidden, hidden)
            w[p + "attn.gk_proj.weight"] = draw.matrix(mix["num_heads"], hidden, 3.0)
        feed_forward(p)
    w["model.shared_kv_builder.kv_norm.weight"] = draw.norm(hidden)
    w["model.shared_kv_builder.k_proj.weight"] = draw.matrix(kv, hidden, 1.2)
    w["model.shared_kv_builder.v_proj.weight"] = draw.matrix(kv, hidden)
    for i in range(config["num_hidden_layers"] - config["num_self_decoder_layers"]):
        p = f"model.cross_layers.{i}."
        w[p + "attn_norm.weight"] = draw.norm(hidden)
        w[p + "attn.q_proj.weight"] = draw.matrix(hidden, hidden, 1.2)
        w[p + "attn.o_proj.weight"] = draw.matrix(hidden, hidden, 1.5)
        feed_forward(p)
    w["model.norm.weight"] = draw.norm(hidden)
    w["lm_head.weight"] = draw.matrix(config["vocab_size"], hidden)
    return w, draw


def make(name, out):
    config, count, every = GOLDENS[name]
    weights, draw = draw_weights(name, config)
    tokens = draw.tokens(config["vocab_size"], count)
    logits = yoco_reference.logits(config, weights, tokens)
    rows = np.arange(every - 1, count, every) if every > 1 else None
    store.write_golden(out / name, config, weights, tokens, logits if rows is None else logits[rows], rows)
    return f"logits std {logits.std():.2f}"


RECIPES = {name: (lambda out, name=name: make(name, out)) for name in GOLDENS}
