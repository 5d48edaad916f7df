"""Small tokenizers of the kinds that models ship, trained with the `tokenizers` package, and what that package answers.

tokenizers/<name>/tokenizer.json and cases.tar.xz (cases.jsonl). A case: text, ids (no special tokens added), decoded (of ids, nothing
skipped); and, only where it differs: ids_special (special tokens added), ids_plain (special tokens in the text taken as
plain text), decoded_skip (of ids, special tokens skipped). decode.jsonl: ids that no text gives (characters cut in the
middle, stray bytes) and what they decode to.
"""

import json
import random
import zlib

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from . import corpus
from .packed import pack

CASES = 800
BROKEN = 150

LLAMA3_SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2_SPLIT = LLAMA3_SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")
O200K_SPLIT = "|".join(
    [
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def bytes_after(*splits):
    return pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def special(content, **flags):
    return AddedToken(content, special=True, normalized=False, **flags)


def plain(content, **flags):
    return AddedToken(content, special=False, **flags)


def train(tokenizer, vocab, specials=()):
    byte_level = not tokenizer.model.byte_fallback and tokenizer.model.unk_token is None
    alphabet = pre_tokenizers.ByteLevel.alphabet() if byte_level else []
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, show_progress=False, initial_alphabet=alphabet, special_tokens=list(specials), min_frequency=2
    )
    tokenizer.train_from_iterator(corpus.training_lines(), trainer)


def byte_level(pre, vocab, normalizer=None, ignore_merges=False):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre, decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    train(tokenizer, vocab)
    return tokenizer


def edited(tokenizer, edit):
    """The tokenizer after edit(its JSON)."""
    state = json.loads(tokenizer.to_str())
    edit(state)
    return Tokenizer.from_str(json.dumps(state))


def gpt2():
    tokenizer = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True), 1100)
    tokenizer.add_tokens([special("<|endoftext|>")])
    return tokenizer


def neox():
    """As in RWKV-4's 20B tokenizer: NFC, and runs of spaces as added tokens that are neither special nor raw."""
    pre = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer = byte_level(pre, 800, normalizers.NFC())
    tokenizer.add_tokens([special("<|endoftext|>"), special("<|padding|>")])
    tokenizer.add_tokens([plain(" " * n, normalized=True) for n in range(24, 1, -1)])
    return tokenizer


def llama3():
    """ignore_merges with whole words that no merge reaches; added tokens of every kind; BOS by a template."""
    tokenizer = byte_level(bytes_after(split(LLAMA3_SPLIT)), 1000, ignore_merges=True)

    def add_unreachable_words(state):
        vocab, known = state["model"]["vocab"], pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        for word in corpus.WORDS[::9]:
            for text in (word, " " + word):
                if word.isalpha():
                    vocab.setdefault(known.pre_tokenize_str(text)[0][0], len(vocab))

    tokenizer = edited(tokenizer, add_unreachable_words)
    names = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    tokenizer.add_tokens([special(name) for name in names])
    tokenizer.add_tokens([special("<|left|>", lstrip=True), special("<|right|>", rstrip=True)])
    tokenizer.add_tokens([special("<|both|>", lstrip=True, rstrip=True)])
    tokenizer.add_tokens([plain("token", single_word=True, normalized=False), plain("<tool>", normalized=False)])
    tokenizer.add_tokens([plain("<tool>x", normalized=True), plain("河水", normalized=True), plain("مرحبا", normalized=False)])
    bos = tokenizer.token_to_id("<|begin_of_text|>")
    template = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|> $B", special_tokens=[("<|begin_of_text|>", bos)]
    )
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return tokenizer


def qwen2():
    """NFC before splitting; normalized added tokens match after it, raw ones before."""
    tokenizer = byte_level(bytes_after(split(QWEN2_SPLIT)), 1000, normalizers.NFC())
    tokenizer.add_tokens([special("<|endoftext|>"), special("<|im_start|>"), special("<|im_end|>")])
    tokenizer.add_tokens([plain("<tool_call>", normalized=False), plain("мой", normalized=True)])
    tokenizer.add_tokens([plain("и\u0306од", normalized=True), plain("ки\u0306", normalized=False)])
    return tokenizer


def o200k():
    tokenizer = byte_level(bytes_after(split(O200K_SPLIT)), 900)
    tokenizer.add_tokens([special("<|endoftext|>"), special("<|endofprompt|>")])
    return tokenizer


def deepseek():
    splits = [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"\s+$", "[一-龥ࠀ-一가-퟿]+"]
    tokenizer = byte_level(bytes_after(*map(split, splits), pre_tokenizers.Digits(individual_digits=True)), 900)
    tokenizer.add_tokens([special("<｜begin▁of▁sentence｜>"), special("<｜end▁of▁sentence｜>")])
    tokenizer.add_tokens([plain("<｜User｜>", normalized=False), plain("<｜fim▁hole｜>", normalized=False)])
    return tokenizer


def sentence_piece(byte_fallback, specials, vocab):
    """Trained word by word, as SentencePiece is; the caller says how text is cut."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=byte_fallback))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    bytes_ = [f"<0x{b:02X}>" for b in range(256)] if byte_fallback else []
    train(tokenizer, vocab, specials + bytes_)

    def make_bytes_ordinary(state):
        state["added_tokens"] = [t for t in state["added_tokens"] if t["content"] in specials]
        state["pre_tokenizer"] = None

    return edited(tokenizer, make_bytes_ordinary)


def spm_decoder(strip):
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    return decoders.Sequence(steps + ([decoders.Strip(" ", 1, 0)] if strip else []))


def llama2():
    tokenizer = sentence_piece(True, ["<unk>", "<s>", "</s>"], 1200)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = spm_decoder(True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    tokenizer.add_tokens([plain("[INST]", normalized=False), plain("[/INST]", normalized=False), plain("[NAME]", normalized=True)])
    return tokenizer


def metaspace():
    """Text is cut by the Metaspace pre-tokenizer; a character that was not seen is unknown, neighbours fused."""
    tokenizer = sentence_piece(False, ["<unk>", "<s>", "</s>"], 900)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    tokenizer.add_tokens([special("[INST]"), special("[/INST]")])
    return tokenizer


def gemma():
    """No prefix, spaces replaced by the normalizer, byte fallback, cut after spaces that the normalizer has left none of."""
    tokenizer = sentence_piece(True, ["<pad>", "<eos>", "<bos>", "<unk>"], 1200)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = spm_decoder(False)
    tokenizer.add_tokens([special("<start_of_turn>"), special("<end_of_turn>"), plain("\n\n", normalized=False)])
    tokenizer.add_tokens([plain("▁▁▁▁", normalized=False), plain("<table>", normalized=False)])
    return tokenizer


TOKENIZERS = [gpt2, neox, llama3, qwen2, o200k, deepseek, llama2, metaspace, gemma]
OLD_MERGES = [gpt2, neox, llama2]  # written as "a b", as files of before 2024 have them; the others as ["a", "b"]


def written(tokenizer, old_merges):
    state = json.loads(tokenizer.to_str())
    if old_merges:
        state["model"]["merges"] = [" ".join(pair) for pair in state["model"]["merges"]]
    text = json.dumps(state, ensure_ascii=False, separators=(",", ":"))
    assert Tokenizer.from_str(text).to_str() == tokenizer.to_str()
    return text


def case(tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    decoded = tokenizer.decode(ids, skip_special_tokens=False)
    answer = {"text": text, "ids": ids, "decoded": decoded}
    with_special = tokenizer.encode(text, add_special_tokens=True).ids
    skipped = tokenizer.decode(ids, skip_special_tokens=True)
    tokenizer.encode_special_tokens = True
    as_text = tokenizer.encode(text, add_special_tokens=False).ids
    tokenizer.encode_special_tokens = False
    for name, value, usual in (("ids_special", with_special, ids), ("ids_plain", as_text, ids), ("decoded_skip", skipped, decoded)):
        if value != usual:
            answer[name] = value
    return answer


def broken_ids(tokenizer, seed, count):
    """Slices of what texts encode to, with single tokens dropped or put in."""
    pick = random.Random(seed)
    single = sorted(i for token, i in tokenizer.get_vocab().items() if len(token) == 1 or token.startswith("<0x"))
    while count > 0:
        ids = tokenizer.encode(pick.choice(corpus.SENTENCES + corpus.EMOJI), add_special_tokens=False).ids
        start = pick.randrange(len(ids))
        ids = ids[start : start + pick.randrange(1, 12)]
        for _ in range(pick.randrange(3)):
            at = pick.randrange(len(ids) + 1)
            ids[at : at + pick.randrange(2)] = [pick.choice(single) for _ in range(pick.randrange(1, 4))]
        if ids:
            count -= 1
            yield ids


def as_lines(values):
    return "".join(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n" for value in values)


def make(build, out):
    folder = out / "tokenizers" / build.__name__
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = build()
    (folder / "tokenizer.json").write_text(written(tokenizer, build in OLD_MERGES) + "\n")
    added = [t.content for t in tokenizer.get_added_tokens_decoder().values()]
    seed = zlib.crc32(build.__name__.encode())
    cases = [case(tokenizer, line) for line in dict.fromkeys(corpus.case_lines(seed, CASES, sorted(added)))]
    pack(folder / "cases.tar.xz", "cases.jsonl", as_lines(cases).encode())
    broken = broken_ids(tokenizer, seed, BROKEN)
    decoded = ({"ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False)} for ids in broken)
    (folder / "decode.jsonl").write_text(as_lines(decoded), newline="\n")
    return f"{tokenizer.get_vocab_size()} tokens, {len(cases)} cases"


RECIPES = {f"tokenizer-{build.__name__}": (lambda out, build=build: make(build, out)) for build in TOKENIZERS}
