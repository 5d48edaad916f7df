"""Goldens of the GQA family. The oracle is transformers: it reads the golden's own folder, eager attention, fp32, CPU."""

import numpy as np

from . import gqa_reference, store
from .draw import Draw

TOLERANCE = 2e-5  # between transformers in fp32 and the float64 reference; the goldens promise 1e-4


def llama(layers, hidden, heads, kv_heads, ffn, vocab, **more):
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": ffn,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocab,
        "max_position_embeddings": 256,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "float32",
    } | more


def other(model_type, architecture, *shape, **more):
    return llama(*shape) | {"model_type": model_type, "architectures": [architecture]} | more


def qwen2(*shape, **more):
    return other("qwen2", "Qwen2ForCausalLM", *shape, use_sliding_window=False, **more)


def qwen3():
    """The one golden whose config.json has the form that transformers 5 writes: rope_parameters, dtype."""
    config = other("qwen3", "Qwen3ForCausalLM", 2, 48, 4, 2, 72, 97, head_dim=16, attention_bias=False)
    del config["rope_theta"], config["torch_dtype"]
    return config | {"rope_parameters": {"rope_type": "default", "rope_theta": 50000.0}, "dtype": "float32"}


LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}
DYNAMIC = {"rope_type": "dynamic", "factor": 4.0, "original_max_position_embeddings": 8}

# name: (config, tokens, what transformers must be told beside the folder)
GOLDENS = {
    "llama-gqa": (llama(3, 48, 6, 3, 72, 97), 24, {}),
    "llama-mqa": (llama(2, 48, 4, 1, 72, 97), 24, {}),
    "llama-mha": (llama(3, 48, 6, 6, 60, 131), 24, {}),
    "llama-rope-llama3": (llama(2, 48, 4, 2, 48, 61, head_dim=16, rope_scaling=LLAMA3), 72, {}),
    "llama-rope-yarn": (llama(2, 48, 4, 2, 48, 61, head_dim=16, rope_scaling=YARN, max_position_embeddings=1024), 72, {}),
    "llama-rope-linear": (llama(2, 48, 4, 2, 48, 61, head_dim=16, rope_scaling={"type": "linear", "factor": 2.0}), 24, {}),
    # transformers stretches theta by the length of the text over max_position_embeddings. Told that the latter is 8, and
    # given 32 tokens at once, it uses (4 * 32 / 8 - 3): our static rule for max_position_embeddings 32, original 8.
    "llama-rope-dynamic": (
        llama(2, 48, 4, 2, 48, 61, head_dim=16, rope_scaling=DYNAMIC, max_position_embeddings=32),
        32,
        {"max_position_embeddings": 8},
    ),
    "llama-partial-rotary": (llama(2, 64, 4, 2, 64, 67, partial_rotary_factor=0.5), 24, {"phi3": True}),
    "llama-bias": (llama(2, 48, 6, 2, 72, 97, attention_bias=True, mlp_bias=True), 24, {}),
    "llama-tied": (llama(2, 48, 6, 2, 72, 97, head_dim=16, tie_word_embeddings=True), 24, {}),
    "mistral-window": (other("mistral", "MistralForCausalLM", 3, 48, 4, 2, 72, 97, sliding_window=8), 40, {}),
    "qwen2": (qwen2(2, 48, 6, 2, 72, 97), 24, {}),
    "qwen2-swa-all": (
        qwen2(2, 48, 4, 2, 48, 61) | {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 0},
        24,
        {},
    ),
    "qwen2-swa-partial": (
        qwen2(3, 48, 4, 2, 48, 61) | {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
        24,
        {},
    ),
    "qwen3": (qwen3(), 24, {}),
}


def draw_weights(name, config):
    draw, hidden, ffn = Draw(name), config["hidden_size"], config["intermediate_size"]
    hd = gqa_reference.head_dim_of(config)
    q, kv = config["num_attention_heads"] * hd, config["num_key_value_heads"] * hd
    tied = config["tie_word_embeddings"]
    w = {"model.embed_tokens.weight": draw.embedding(config["vocab_size"], hidden, 1 / np.sqrt(hidden) if tied else 1.0)}
    for i in range(config["num_hidden_layers"]):
        p = f"model.layers.{i}."
        w[p + "input_layernorm.weight"] = draw.norm(hidden)
        for part, rows, gain in (("q", q, 1.6), ("k", kv, 1.6), ("v", kv, 1.0)):
            w[p + f"self_attn.{part}_proj.weight"] = draw.matrix(rows, hidden, gain)
            if config.get("attention_bias") or config["model_type"] == "qwen2":
                w[p + f"self_attn.{part}_proj.bias"] = draw.normal(rows, scale=0.5)
        if config["model_type"] == "qwen3":
            w[p + "self_attn.q_norm.weight"] = 1.5 * draw.norm(hd)
            w[p + "self_attn.k_norm.weight"] = 1.5 * draw.norm(hd)
        w[p + "self_attn.o_proj.weight"] = draw.matrix(hidden, q)
        if config.get("attention_bias"):
            w[p + "self_attn.o_proj.bias"] = draw.normal(hidden, scale=0.3)
        w[p + "post_attention_layernorm.weight"] = draw.norm(hidden)
        for part, rows, columns in (("gate", ffn, hidden), ("up", ffn, hidden), ("down", hidden, ffn)):
            w[p + f"mlp.{part}_proj.weight"] = draw.matrix(rows, columns, 1.5)
            if config.get("mlp_bias"):
                w[p + f"mlp.{part}_proj.bias"] = draw.normal(rows, scale=0.3)
    w["model.norm.weight"] = draw.norm(hidden)
    if not tied:
        w["lm_head.weight"] = draw.matrix(config["vocab_size"], hidden)
    return w, draw


def transformers_logits(folder, tokens, **overrides):
    import torch
    from transformers import AutoModelForCausalLM

    model, report = AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32, output_loading_info=True, local_files_only=True, **overrides
    )
    assert not any(report[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
    assert model.config._attn_implementation == "eager" and model.dtype == torch.float32
    with torch.no_grad():
        return model.eval()(torch.tensor(tokens)[None], use_cache=False).logits[0].numpy()


def phi3_logits(config, weights, tokens):
    """transformers' Llama ignores partial_rotary_factor; its Phi-3 is the same model with it, and with fused matrices."""
    import torch
    from transformers import Phi3Config, Phi3ForCausalLM

    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size")
    names += ("max_position_embeddings", "rms_norm_eps", "rope_theta", "partial_rotary_factor", "tie_word_embeddings")
    phi3 = Phi3Config(**{k: config[k] for k in names}, sliding_window=None, pad_token_id=None, attn_implementation="eager")
    fused = {}
    for name, value in weights.items():
        for first, rest, new in (("q_proj", "kv", "qkv_proj"), ("gate_proj", ("up",), "gate_up_proj")):
            if first in name:
                parts = [value] + [weights[name.replace(first, f"{part}_proj")] for part in rest]
                fused[name.replace(first, new)] = np.concatenate(parts)
        if not any(f"{part}_proj" in name for part in ("q", "k", "v", "gate", "up")):
            fused[name] = value
    model = Phi3ForCausalLM(phi3).to(torch.float32).eval()
    model.load_state_dict({k: torch.from_numpy(v) for k, v in fused.items()}, strict=True)
    with torch.no_grad():
        return model(torch.tensor(tokens)[None], use_cache=False).logits[0].numpy()


def make(name, out):
    config, count, overrides = GOLDENS[name]
    weights, draw = draw_weights(name, config)
    tokens = draw.tokens(config["vocab_size"], count)
    folder = out / name
    store.write_golden(folder, config, weights, tokens, np.zeros((count, config["vocab_size"])))
    if "phi3" in overrides:
        logits = phi3_logits(config, weights, tokens)
    else:
        logits = transformers_logits(folder, tokens, **overrides)
    difference = np.abs(gqa_reference.logits(config, weights, tokens) - logits).max()
    assert difference < TOLERANCE, f"{name}: transformers and the float64 reference differ by {difference}"
    store.write_golden(folder, config, weights, tokens, logits)
    return f"logits std {logits.std():.2f}, float64 reference differs by {difference:.1e}"
