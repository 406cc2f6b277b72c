#!/usr/bin/env python3
"""Makes the text files beside this script from the token files: the same documents, for models with other tokenizers.

    pip install tokenizers pyarrow zstandard
    python make_text.py

train.parquet and eval.parquet are packed: token 0 (<|endoftext|>) stands before each document, of which they hold at most the
first 1,023 tokens. Here each is decoded with the models' tokenizer, into a line {"text": ...} of train-text.jsonl.zst or
eval-text.jsonl.zst, in order. A document may go on in the next row, so rows are joined first. Where a document was cut within a
character, the bytes of that character are left out; nothing else differs from the text that was tokenised.
"""

import json
from pathlib import Path

import pyarrow.parquet as pq
import zstandard
from tokenizers import Tokenizer

HERE = Path(__file__).parent


def main():
    tokenizer = Tokenizer.from_file(str(HERE / "small/tokenizer.json"))
    for name in ("train", "eval"):
        rows = pq.read_table(HERE / f"{name}.parquet")["tokens"].to_pylist()
        documents = [[]]
        for token in (token for row in rows for token in row):
            if token == 0:
                documents.append([])
            else:
                documents[-1].append(token)
        texts = [tokenizer.decode(ids, skip_special_tokens=False) for ids in documents if ids]
        cut = sum(text.endswith("\ufffd") for text in texts)
        texts = [text.rstrip("\ufffd") for text in texts]
        lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
        out = HERE / f"{name}-text.jsonl.zst"
        out.write_bytes(zstandard.ZstdCompressor(level=19).compress(lines.encode()))
        print(f"{out.name}: {len(texts)} documents, {sum(map(len, texts))} characters, {cut} cut within one, {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
