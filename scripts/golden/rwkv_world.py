"""The RWKV World vocabulary, taken from the official `rwkv` package (Apache-2.0), and what its tokenizer answers.

The package ships the file with CRLF line ends; it is written with LF, as upstream has it, which gives the known digest.
"""

import hashlib
import tempfile
from importlib.metadata import distribution

from . import corpus
from .packed import pack
from .tokenizer_goldens import as_lines

SHA256 = "e6dee3d4e31b4d5c40ac99508ac6c701ceef4bed681bf2167ce9a908552bca89"
NAME = "rwkv_vocab_v20230424.txt"
ADDED = ["<|endoftext|>", "\n\nUser:", "\n\nAssistant:", " Assistant", "\n\nSystem: ", "<think>", "</think>"]


def make(out):
    from rwkv.rwkv_tokenizer import TRIE_TOKENIZER

    folder = out / "rwkv_world"
    folder.mkdir(parents=True, exist_ok=True)
    files = {file.name: file for file in distribution("rwkv").files}
    (folder / "LICENSE").write_bytes(files["LICENSE"].locate().read_bytes())
    data = files[NAME].locate().read_bytes().replace(b"\r\n", b"\n")
    assert hashlib.sha256(data).hexdigest() == SHA256
    pack(folder / (NAME.removesuffix(".txt") + ".tar.xz"), NAME, data)
    with tempfile.TemporaryDirectory() as unpacked:
        path = f"{unpacked}/{NAME}"
        with open(path, "wb") as file:
            file.write(data)
        tokenizer = TRIE_TOKENIZER(path)
    cases = []
    for text in dict.fromkeys(corpus.case_lines(7, 560, ADDED) + [" " * 127, " " * 128, " " * 129, "Hello world", "你好"]):
        ids = tokenizer.encode(text)
        assert tokenizer.decodeBytes(ids) == text.encode()
        cases.append({"text": text, "ids": ids})
    (folder / "cases.jsonl").write_text(as_lines(cases), newline="\n")
    return f"{len(tokenizer.idx2token)} tokens, {len(cases)} cases"
