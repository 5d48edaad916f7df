"""Negative controls: edits of a golden's config.json after which its logits must no longer come out.

negative_controls.json is a list of {golden, mistake, edit: {JSON pointer: new value}, expect_min_diff}: with the edit, the
largest difference from the expected logits must exceed expect_min_diff, which is half of what the float64 references
find. A pointer may add a field that is absent.
"""

import copy

import numpy as np

from . import gqa_reference, rwkv_goldens, rwkv_reference, store, yoco_reference

LEAST = 1e-3


def rope(field, *values):
    return [(f"rope {field} {value}", {f"/rope_scaling/{field}": value}) for value in values]


def field(name, *values):
    return [(f"{name} {value}", {f"/{name}": value}) for value in values]


def within(part, name, *values):
    return [(f"{part} {name} {value}", {f"/{part}/{name}": value}) for value in values]


NO_SCALING = [("rope_scaling ignored", {"/rope_scaling": None})]
COMMON = field("rope_theta", 9000.0, 20000.0) + field("rms_norm_eps", 1e-6, 1e-4)
YOCO = field("norm_eps", 1e-6, 1e-4)
for decoder in ("self_decoder_attn", "cross_decoder_attn"):
    YOCO = YOCO + within(decoder, "rope_inv_freq", "fla") + within(decoder, "rope_theta", 5000.0)
RETENTION = YOCO + within("self_decoder_attn", "gate_logit_normalizer", 8, 32)

CONTROLS = {
    "llama-gqa": COMMON,
    "llama-mqa": COMMON,
    "llama-mha": COMMON + [("3 heads of 16 for 6 of 8", {"/num_attention_heads": 3, "/num_key_value_heads": 3})],
    "llama-rope-llama3": NO_SCALING
    + rope("factor", 4.0)
    + rope("low_freq_factor", 2.0)
    + rope("high_freq_factor", 8.0)
    + rope("original_max_position_embeddings", 32, 128),
    "llama-rope-yarn": NO_SCALING
    + rope("factor", 2.0)
    + rope("original_max_position_embeddings", 1024)
    + rope("attention_factor", 1.0)
    + rope("beta_slow", 4),
    "llama-rope-linear": NO_SCALING + rope("factor", 2.5),
    "llama-rope-dynamic": NO_SCALING
    + rope("factor", 3.0)
    + rope("original_max_position_embeddings", 16)
    + field("max_position_embeddings", 64),
    "llama-partial-rotary": field("partial_rotary_factor", 0.25, 1.0),
    "llama-bias": COMMON,
    "llama-tied": COMMON,
    "mistral-window": field("sliding_window", 7, 9, None),
    "qwen2": COMMON,
    "qwen2-swa-all": field("sliding_window", 4, 6) + field("use_sliding_window", False) + field("max_window_layers", 1),
    "qwen2-swa-partial": field("sliding_window", 4, 6) + field("use_sliding_window", False) + field("max_window_layers", 0, 2),
    "qwen3": within("rope_parameters", "rope_theta", 10000.0) + field("rms_norm_eps", 1e-6, 1e-4),
    "rwkv4-hf": field("layer_norm_epsilon", 1e-6, 1e-4),
    "rwkv7-hub": field("norm_eps", 1e-6, 1e-4),
    "yoco-gret-tiny": RETENTION,
    "yoco-gret-uneven": RETENTION,
    "yoco-gret-600": RETENTION,
    "yoco-swa-tiny": YOCO + within("self_decoder_attn", "window_size", 7, 9),
    "yoco-swa-600": YOCO + within("self_decoder_attn", "window_size", 39, 41),
}


def edited(config, edit):
    config = copy.deepcopy(config)
    for pointer, value in edit.items():
        *path, last = pointer.removeprefix("/").split("/")
        at = config
        for step in path:
            at = at[step]
        at[last] = value
    return config


def logits_of(name, config, weights, tokens):
    """A list of logits: more than one where a runtime may read the config in more than one right way."""
    if name == "rwkv4-hf":
        return [rwkv_reference.rwkv4_logits(rwkv_goldens.rwkv4_hf()[1], tokens, config["layer_norm_epsilon"])]
    if name == "rwkv7-hub":  # the norm over heads may follow norm_eps, as in flash-linear-attention, or stay at 64e-5
        eps, weights = config["norm_eps"], rwkv_goldens.rwkv7_hub()[1]
        return [rwkv_reference.rwkv7_logits(weights, tokens, eps, group) for group in (64 * eps, 64e-5)]
    reference = yoco_reference if config["model_type"] == "yoco" else gqa_reference
    return [reference.logits(config, weights, tokens)]


def make(data, out):
    """Reads the goldens from out, or from data where out has them not."""
    controls = []
    for name, mistakes in CONTROLS.items():
        folder = out / name if (out / name).exists() else data / name
        config, weights, tokens, expected, rows = store.load_golden(folder)
        right = max(np.abs(logits[rows] - expected).max() for logits in logits_of(name, config, weights, tokens))
        assert right < 2e-5, f"{name}: the reference itself differs by {right}"
        for mistake, edit in mistakes:
            wrong = logits_of(name, edited(config, edit), weights, tokens)
            difference = min(np.abs(logits[rows] - expected).max() for logits in wrong)
            bound = float(f"{difference / 2:.1e}")
            assert bound > LEAST, f"{name}: {mistake} moves the logits by {difference} only"
            controls.append({"golden": name, "mistake": mistake, "edit": edit, "expect_min_diff": bound})
    store.save_json(out / "negative_controls.json", controls)
    return f"{len(controls)} controls, the weakest asks for {min(c['expect_min_diff'] for c in controls)}"
