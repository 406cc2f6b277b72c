#!/usr/bin/env python3
"""Writes sources.txt: a line for each document of train-text.jsonl.zst and then of eval-text.jsonl.zst, the source that
make_tokens.py guesses it to be from. `assay probe --tasks bundled` takes them as labels.

    pip install numpy pyarrow tokenizers zstandard
    python make_sources.py
"""

import io
import json
from pathlib import Path

import zstandard
from make_tokens import source

HERE = Path(__file__).parent


def main():
    names = []
    for part in ("train", "eval"):
        with open(HERE / f"{part}-text.jsonl.zst", "rb") as file:
            lines = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), encoding="utf-8")
            names += [source(json.loads(line)["text"]) for line in lines]
    (HERE / "sources.txt").write_text("\n".join(names) + "\n")


if __name__ == "__main__":
    main()
