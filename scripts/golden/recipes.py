"""Every golden that can be made, by name, in the order in which they are made."""

from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from . import chat_goldens, controls, llama_goldens, rwkv_goldens, rwkv_world, store, tokenizer_goldens, yoco_goldens, yoco_reference

DATA = Path(__file__).resolve().parents[2] / "tests" / "golden" / "data"

RECIPES = {name: partial(llama_goldens.make, name) for name in llama_goldens.GOLDENS}
RECIPES |= rwkv_goldens.RECIPES | yoco_goldens.RECIPES | tokenizer_goldens.RECIPES
RECIPES |= {"rwkv_world": rwkv_world.make, "chat": chat_goldens.make}
RECIPES |= {"negative_controls": partial(controls.make, DATA)}


def check_references():
    """The YOCO reference against the goldens that microsoft/unilm's own modules computed."""
    for name in ("yoco-gret-tiny", "yoco-swa-tiny"):
        config, weights, tokens, logits, _ = store.load_golden(DATA / name)
        difference = np.abs(yoco_reference.logits(config, weights, tokens) - logits).max()
        assert difference <= 1e-4, f"the YOCO reference differs from {name} by {difference}"
        print(f"the YOCO reference agrees with {name} to {difference:.1e}")


def write_versions(out):
    store.save_json(out / "VERSIONS.json", {p: version(p) for p in ("transformers", "torch", "rwkv", "tokenizers", "numpy", "jinja2")})
