"""The training text: the King James Bible (public domain), from the Debian packages bible-kjv and
bible-kjv-text. One chapter is one document. Every 50th chapter is held out and never trained on.
"""

import os
import re
import shutil
import subprocess
import tempfile

PACKAGES = ["bible-kjv", "bible-kjv-text"]
HELD_OUT_EVERY = 50
HELD_OUT_PHASE = 7  # its longest fitting chapter is John 11, a story told nowhere else
HELD_OUT_BYTES_MAX = 6100  # stays below 2048 tokens in every tokenizer of the demo models


def _run_bible(program, data_folder):
    # One line per verse: the program breaks lines at COLUMNS when it prints headings.
    command = [program, "-l100000", "-p", data_folder, "gen1:1-rev22:21"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True,
                          env={**os.environ, "COLUMNS": "100000"})
    return done.stdout.decode("ascii")


def _raw_text():
    if shutil.which("bible") and os.path.exists("/usr/lib/bible.data"):
        return _run_bible("bible", "/usr/lib")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["apt-get", "download", *PACKAGES], cwd=folder, check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for name in sorted(os.listdir(folder)):
            if name.endswith(".deb"):
                subprocess.run(["dpkg", "-x", name, "files"], cwd=folder, check=True)
        return _run_bible(f"{folder}/files/usr/bin/bible", f"{folder}/files/usr/lib")


def chapters():
    """Returns every chapter as "Genesis 1\\n\\nverse\\nverse\\n...", in the order of the book."""
    documents = []
    for line in _raw_text().splitlines():
        verse = re.match(r"\s+\d+ (.*\S)", line)
        if verse:
            documents[-1].append(verse.group(1))
        elif line.strip():
            documents.append([line.strip(), ""])
    if len(documents) != 1189:
        raise SystemExit(f"bible-kjv printed {len(documents)} chapters, not the 1189 of the book: "
                         "its output format differs from what corpus.py reads.")
    return ["\n".join(document) + "\n" for document in documents]


def split(documents):
    """Returns (training chapters, held-out chapters)."""
    held_out = lambda i: i % HELD_OUT_EVERY == HELD_OUT_PHASE
    return ([d for i, d in enumerate(documents) if not held_out(i)],
            [d for i, d in enumerate(documents) if held_out(i)])


def held_out_text(held_out):
    """The text of configs/models/heldout.txt: the longest held-out chapter that fits the limit."""
    return max((d for d in held_out if len(d) <= HELD_OUT_BYTES_MAX), key=len)
