"""The tokenizers of the demo models, 1024 entries each. Three kinds, so that every tokenizer of the
runtime is used by one of them:

  llama3   byte-level BPE, pieces split by the Llama-3 regex        (gqa, gqa-draft)
  gpt2     byte-level BPE, pieces split by the GPT-2 regex          (yoco-gret)
  spm      SentencePiece-style BPE with byte fallback, adds <s>     (yoco-swa)
  world    RWKV World: greedy longest match, rwkv_vocab.txt         (rwkv4, rwkv7)
"""

import ast
import json

from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers,
                        processors, trainers)

SIZE = 1024
END_OF_TEXT = "<|endoftext|>"
LLAMA3_PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
                  r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
# These models know no turns: a conversation is its contents, one per line, and the model goes on.
CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] + '\\n' }}{% endfor %}"


def byte_level(documents, kind):
    tokenizer = Tokenizer(models.BPE())
    if kind == "llama3":
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(LLAMA3_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(documents, trainers.BpeTrainer(
        vocab_size=SIZE, special_tokens=[END_OF_TEXT], show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": None,
              "eos_token": END_OF_TEXT, "add_bos_token": False, "model_max_length": 2048,
              "clean_up_tokenization_spaces": False, "chat_template": CHAT_TEMPLATE}
    return tokenizer, config


def sentencepiece_style(documents):
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    special_tokens = ["<unk>", "<s>", "</s>"]
    trained = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    # Words and punctuation are split only while training: no merge crosses them, so that encoding
    # the whole text as one piece, as Llama-2 does, gives the same tokens. A newline stays out of
    # the vocabulary and falls back to <0x0A>; the first word of a line thus has no leading "▁".
    trained.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Metaspace(prepend_scheme="never"), pre_tokenizers.Punctuation()])
    lines = [line for document in documents for line in document.splitlines() if line]
    trained.train_from_iterator(lines, trainers.BpeTrainer(
        vocab_size=SIZE, special_tokens=special_tokens + byte_tokens, show_progress=False))
    description = json.loads(trained.to_str())
    tokenizer = Tokenizer(models.BPE(
        vocab=description["model"]["vocab"], unk_token="<unk>", byte_fallback=True, fuse_unk=True,
        merges=[tuple(merge) for merge in description["model"]["merges"]]))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
        decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens(
        [AddedToken(token, normalized=False, special=True) for token in special_tokens])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    config = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>",
              "unk_token": "<unk>", "add_bos_token": True, "add_eos_token": False,
              "model_max_length": 2048, "clean_up_tokenization_spaces": False,
              "chat_template": CHAT_TEMPLATE}
    return tokenizer, config


class WorldTokenizer:
    """Greedy longest match over bytes. Id 0 is the end of the text, ids 1..256 are the bytes."""

    def __init__(self, entries):
        self.entries = entries  # entries[id]; entries[0] = b""
        self.ids = {entry: i for i, entry in enumerate(entries) if i > 0}
        self.length_max = max(map(len, entries))

    @classmethod
    def trained_on(cls, documents):
        # The merges of a byte-level BPE are a good list of frequent words and word pieces.
        bpe = Tokenizer(models.BPE())
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        bpe.train_from_iterator(documents, trainers.BpeTrainer(
            vocab_size=SIZE - 2, show_progress=False,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
        decoder = decoders.ByteLevel()
        pieces = {decoder.decode([token]).encode() for token in bpe.get_vocab() if len(token) > 1}
        entries = [b""] + [bytes([byte]) for byte in range(256)]
        return cls(entries + sorted(pieces | {b"\n\n"}))

    @classmethod
    def load(cls, path):
        entries = [b""]
        with open(path, encoding="utf-8") as file:
            for line in file:
                literal = ast.literal_eval(line[line.index(" ") + 1:line.rindex(" ")])
                entries.append(literal.encode() if isinstance(literal, str) else literal)
                assert len(entries) - 1 == int(line.split(" ")[0])
                assert len(entries[-1]) == int(line.split(" ")[-1])
        return cls(entries)

    def save(self, path):
        with open(path, "w", encoding="utf-8") as file:
            for i, entry in enumerate(self.entries[1:], start=1):
                try:
                    literal = repr(entry.decode())
                except UnicodeDecodeError:
                    literal = repr(entry)
                file.write(f"{i} {literal} {len(entry)}\n")

    def encode(self, text):
        data, ids, at = text.encode(), [], 0
        while at < len(data):
            length = self.length_max
            while data[at:at + length] not in self.ids or at + length > len(data):
                length -= 1
            ids.append(self.ids[data[at:at + length]])
            at += length
        return ids

    def decode(self, ids):
        return b"".join(self.entries[i] for i in ids).decode(errors="replace")


class HuggingFaceTokenizer:
    """A tokenizer.json with the two calls of WorldTokenizer."""

    def __init__(self, path):
        self.tokenizer = Tokenizer.from_file(path)

    def encode(self, text):
        return self.tokenizer.encode(text).ids

    def decode(self, ids):
        return self.tokenizer.decode(ids)
