#!/usr/bin/env python3
"""Makes corpus.jsonl.zst and corpus-eval.jsonl.zst, the text of `sweeps/smollm2.toml`, from the corpus of the bundled models.

    pip install zstandard numpy pyarrow tokenizers
    python make_corpus.py corpus.txt.xz

The corpus is one text of documents with a NUL between them. Those longer than 200 characters are taken in the order in which the bundled
models were trained (shuffled with `random.Random(0)`), without index pages and what `make_tokens.py` leaves out for its licence. Evaluation text is made of the first 1.4 M characters, which
those models did not see: of every document with 800 characters or more the first 1,500. Documents of which more than 5 % of the 12-word
windows also occur in the training text are left out. Training text is what follows, 17.8 M characters; 40 documents between the two are in
neither.
"""

import json
import lzma
import random
import sys
from pathlib import Path

import zstandard

from make_tokens import LEFT_OUT, is_list

HERE = Path(__file__).parent
WINDOW = 12


def windows(doc):
    words = doc.split()
    return [hash(tuple(words[at : at + WINDOW])) for at in range(len(words) - WINDOW + 1)]


def first(docs, characters):
    """The documents until they have that many characters."""
    taken = []
    for doc in docs:
        taken.append(doc)
        characters -= len(doc)
        if characters < 0:
            break
    return taken


def write(name, docs):
    lines = "".join(json.dumps({"text": doc}, ensure_ascii=False) + "\n" for doc in docs)
    out = HERE / name
    out.write_bytes(zstandard.ZstdCompressor(level=19).compress(lines.encode()))
    print(f"{name}: {len(docs)} documents, {sum(map(len, docs))} characters, {out.stat().st_size} bytes")


def main():
    corpus = lzma.open(sys.argv[1]).read().decode()
    docs = [doc for doc in corpus.split("\0") if len(doc) > 200]
    random.Random(0).shuffle(docs)
    held_out = first(docs, 1_400_000)
    usable = lambda doc: not is_list(doc) and not LEFT_OUT.search(doc)
    train = first([doc for doc in docs[len(held_out) + 40 :] if usable(doc)], 17_800_000)
    known = {window for doc in train for window in windows(doc)}
    evaluated = [doc[:1500] for doc in held_out if len(doc) >= 800 and usable(doc)]
    seen = [sum(window in known for window in windows(doc)) for doc in evaluated]
    evaluated = [doc for doc, n in zip(evaluated, seen) if n <= 0.05 * max(1, len(windows(doc)))]
    write("corpus-eval.jsonl.zst", evaluated)
    write("corpus.jsonl.zst", train)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main()
