"""Files of a golden: safetensors in and out, JSON, and the one way a golden folder is written.

Written here and not taken from a package, so that the bytes depend on nothing but the arrays: tensors lie in the order
of the dictionary, the header is padded with spaces to 8 bytes, and a second run writes the same file.
"""

import json
import struct
from pathlib import Path

import numpy as np

DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32}
NAMES = {np.dtype(v): k for k, v in DTYPES.items()}


def save_safetensors(path, tensors):
    """Writes {name: array}; a (array of uint16, "BF16") pair is written as BF16."""
    header, blobs, offset = {}, [], 0
    for name, value in tensors.items():
        array, dtype = value if isinstance(value, tuple) else (value, NAMES[value.dtype])
        blob = np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [offset, offset + len(blob)]}
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def load_safetensors(path):
    data = Path(path).read_bytes()
    size = struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + size + x for x in entry["data_offsets"])
        tensors[name] = np.frombuffer(data[begin:end], DTYPES[entry["dtype"]]).reshape(entry["shape"]).copy()
    return tensors


def save_json(path, value):
    Path(path).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def load_json(path):
    return json.loads(Path(path).read_text())


def write_golden(folder, config, weights, tokens, logits, rows=None):
    """Writes one golden: config.json (unless None), model.safetensors in F32, expected.safetensors.

    logits is [T, V], or [len(rows), V] with the positions it holds in rows.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if config is not None:
        save_json(folder / "config.json", config)
    save_safetensors(folder / "model.safetensors", {k: np.asarray(v, np.float32) for k, v in weights.items()})
    expected = {"tokens": np.asarray(tokens, np.int64), "logits": np.asarray(logits, np.float32)}
    if rows is not None:
        expected["rows"] = np.asarray(rows, np.int64)
    assert len(expected["logits"]) == len(tokens if rows is None else rows)
    assert np.isfinite(expected["logits"]).all()
    save_safetensors(folder / "expected.safetensors", expected)


def load_golden(folder):
    """-> (config or None, weights, tokens, logits, rows)"""
    folder = Path(folder)
    config = load_json(folder / "config.json") if (folder / "config.json").exists() else None
    expected = load_safetensors(folder / "expected.safetensors")
    rows = expected.get("rows", np.arange(len(expected["tokens"])))
    return config, load_safetensors(folder / "model.safetensors"), expected["tokens"], expected["logits"], rows
