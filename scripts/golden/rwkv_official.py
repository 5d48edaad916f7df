"""Runs the official `rwkv` package in fp32 on a CPU: python -m golden.rwkv_official 4|7 MODEL.pth TOKENS.npy LOGITS.npy

A process of its own, because the package chooses between RWKV-7 and older models when it is imported.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np


def official_logits(version, weights, tokens):
    """-> [T, V], row t after tokens 0..t from an empty state."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        model, ids, out = (Path(folder) / name for name in ("model.pth", "tokens.npy", "logits.npy"))
        torch.save({k: torch.from_numpy(v) for k, v in weights.items()}, model)
        np.save(ids, tokens)
        command = [sys.executable, "-m", "golden.rwkv_official", str(version), model, ids, out]
        done = subprocess.run(command, cwd=Path(__file__).resolve().parents[1], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return np.load(out)


def main(version, model, ids, out):
    os.environ.update(RWKV_CUDA_ON="0", RWKV_JIT_ON="1" if version == "7" else "0")
    if version == "7":
        os.environ["RWKV_V7_ON"] = "1"
    import torch

    torch.set_num_threads(1)
    from rwkv.model import RWKV

    runner = RWKV(model=model.removesuffix(".pth"), strategy="cpu fp32")
    tokens = np.load(ids).tolist()
    if version == "7":
        logits, _ = runner.forward(tokens, None, full_output=True)
    else:  # one token at a time: the package's form for many takes attention to be as wide as the model
        state, rows = None, []
        for token in tokens:
            row, state = runner.forward([token], state)
            rows.append(row.clone())
        logits = torch.stack(rows)
    assert logits.dtype == torch.float32
    np.save(out, logits.numpy())


if __name__ == "__main__":
    main(*sys.argv[1:])
