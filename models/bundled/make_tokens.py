#!/usr/bin/env python3
"""Makes the token files beside this script from the corpus the bundled models were trained on.

    pip install tokenizers pyarrow numpy
    python make_tokens.py CORPUS_TXT_XZ TOKENIZER_JSON OUT_DIR [--fixtures DIR]

CORPUS_TXT_XZ is UTF-8 text, documents separated by a NUL byte. The order of documents and the border between
held-out and training tokens are those of the models' training, rebuilt here step by step:

1. keep documents longer than 200 characters, shuffle them with random.Random(0);
2. tokenise; token 0 (<|endoftext|>) goes before each document; concatenate;
3. the first  int(len * 0.02) // 1024 * 1024  tokens are held out, the rest is for training.

eval.parquet takes documents that lie wholly in the held-out part, from token 3,072 on (the first 24 x 128 held-out
tokens are the fixture tests/golden/eval-small) and of which at most a twentieth of the 24-token windows also occur
in the training part: the sources repeat themselves (boilerplate, two Bibles), and text that the models know by heart
is not held out. train.parquet takes documents wholly in the training part that share no window with the other two
files. Both go through the documents in order and take token 0 and at most the first 1,023 tokens of each, so that no
long document dominates, concatenated and cut into rows of 1,024 tokens.

eval-documents.parquet takes the documents eligible for eval.parquet once more, one a row: token 0 and the first 255
tokens of each that is as long as that, if at most a twentieth of the windows of these 255 are known too.

Documents that match LEFT_OUT below, and pages that only list symbols, are in none of the three.

With --fixtures it also writes sample.jsonl, sample.txt and sample-tokens.json (short documents of the training part
from public-domain sources, and their token ids) for tests of the text sources.
"""

import argparse
import json
import lzma
import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer

ROW = 1024
# Rows and tokens a row of each file, in the order they are made: train.parquet passes over what is in the others.
SHAPES = {"eval": (48, ROW), "eval-documents": (128, 256), "train": (768, ROW)}
# Of int32 and uint16, plain, dictionary, delta and byte-split, zstd 3 to 22: the smallest that any reader knows.
# eval.parquet came first, and its bytes are to stay as they are.
SMALL = {"compression_level": 19, "use_dictionary": False, "row_group_size": 64}
WRITTEN = {"eval": {"row_group_size": 16}, "eval-documents": SMALL, "train": SMALL}
SKIP_EVAL_TOKENS = 24 * 128
WINDOW = 24
KNOWN_SHARE = 0.05
PUBLIC_DOMAIN_SAMPLE = ["Jane Austen", "Shakespeare", "Bible", "State of the Union", "World Factbook"]

# Which source a document came from is not recorded in the corpus. These patterns tell with good but not perfect
# accuracy: the source with the most hits, each weighted, wins.
SOURCES = {
    "Python documentation": [
        (r"^ *\.\. [a-z:-]+::|:(?:func|class|meth|mod|ref|pep|attr|exc|data|keyword|term|const|source|issue):`|^ *>>> ", 3),
    ],
    "Rust books and std": [
        (r"(?i)\brust\b|\bfn \w+|\bimpl\b|\blet (?:mut )?\w+|assert_eq!|println!|\bcrate\b|&mut\b|\btrait\b|#\[|const: unstable|\bunstable ·|core::|std::|core/arch/|\barch::", 2),
    ],
    "SQLite documentation": [
        (r"(?i:\bsqlite\w*)|R-\d{5}-\d{5}|\bPRAGMA\b|\bVDBE\b|(?i:\bfts[345]\b|\bb-tree\b|write-ahead)", 3),
    ],
    "PostgreSQL documentation": [
        (r"(?i:\bpostgres\w*|\bpg_\w+|libpq|plpgsql|\bpl/\w+|\btsvector|\bvacuum\b|\bpsql\b|\becpg\b)", 3),
        (r"(?i:\bSELECT\b|\bCREATE TABLE\b|\btable_name\b|\bschema\b|\bsuperuser\b|\bregexp?\b)|\bALTER [A-Z]+", 1),
    ],
    "WordNet glosses": [(r"^    (?:n|v|adj|adv) 1:|\[syn: \{", 4)],
    "Jargon File": [(r"(?i)\bhackers?\b|\bhackish\b|\bjargon\b|\bUsenet\b|\bcrufty?\b|\[(?:from|MIT|common|Usenet|WPI|Stanford|techspeak)", 4)],
    "World Factbook": [
        (r"\+\+|\(20\d\d est\.\)|\bsq km\b|\bcountry comparison\b|\b(?:GDP|geographic coordinates|elections|chief of state|head of government)\b", 2),
        (r"^[A-Za-z][\w ()/,-]{2,45}: ", 1),
    ],
    "Shakespeare": [
        (r"(?m)^[A-Z][A-Z .’']{2,24}\.$|^\[(?:Enter|Exit|Exeunt|Aside)|^(?:ACT|SCENE) [IVX]+|^[A-Z][a-z]{1,9}\.$", 4),
        (r"(?i)\b(?:thou|thee|thy|hath|doth|'tis|o'er|ne'er|sirrah|prithee)\b", 0.5),
    ],
    "Milton": [(r"(?i)\bMilton\b|\bParadise\b|\bCowper\b|\bComus\b|(?:Second|Elder) Brother|^\d\. Bro:|^(?:THE \w+ BOOK|BOOK [IVX]+)\b", 4), (r"^THE \w+ BOOK$", 60), (r"(?i)\bheav'n\w*|\bpow'r\w*|\w+'d\b", 0.8)],
    "Encyclopaedia Britannica 1911": [(r"EB1911|\.tif\.txt|\bquartos?\b|\bfolios?\b|\bShakespeare's\b|\b1[56]\d\d\b", 3)],
    "Bible": [
        (r"(?i)\bLORD\b|\bYahweh\b|\bIsrael\b|\bJesus\b|\bDavid\b|\bMoses\b|\bJudah\b|\bJerusalem\b|\bthe king of\b|\bsons? of\b|\bdisciples\b", 2),
        (r"(?i)\bunto\b|\bshall\b|\bbehold\b|\bye\b|\bthou\b|\bthy\b|\bGod\b|\bChrist\b", 0.8),
        (r"(?m)^(?:And|For|But|Then|Now|The|He|Behold)\b", 0.2),
    ],
    "Jane Austen": [
        (r"\b(?:Mr|Mrs|Miss|Lady|Sir|Colonel|Captain)\.? [A-Z][a-z]+|\b(?:Elizabeth|Emma|Fanny|Elinor|Marianne|Anne|Catherine|Darcy|Harriet|Crawford|Edmund)\b", 2),
        (r"\b(?:she|her|herself)\b", 0.5),
    ],
    "State of the Union": [
        (r"(?i)\bCongress\b|\bGovernment\b|\bUnited States\b|\bAmericans?\b|\bTreasury\b|\bappropriation|\bSenate\b|\bour (?:nation|people|country|citizens)|\blegislation\b|\bfederal\b|\bfiscal\b|\btreaty\b", 2),
        (r"\b(?:we|our|citizens|nation|nations|country|military|army|navy|commerce|public)\b", 0.4),
    ],
}
# The corpus holds the Embedded Rust Book, whose prose is under CC BY-SA 4.0, a licence the other sources don't have:
# documents that speak of its subject are left out of the token files.
LEFT_OUT = re.compile(r"cortex-m|embedded rust|embedded-hal|svd2rust|openocd|semihosting|micro-?controller|CC-BY-SA|\bmemory-mapped\b|\bperipherals\b", re.I)
SOURCES = {name: [(re.compile(p, re.M), w) for p, w in ps] for name, ps in SOURCES.items()}


def is_list(doc: str) -> bool:
    """An index page: more than half of its lines are one path or symbol name. Such a page is no text to speak of."""
    lines = [line for line in doc.splitlines() if line.strip()]
    return sum(re.fullmatch(r"[\w:.]{12,}", line.strip()) is not None for line in lines) > len(lines) / 2


def source(doc: str) -> str:
    head = doc[:6000]
    score = {name: sum(w * len(p.findall(head)) for p, w in ps) for name, ps in SOURCES.items()}
    best = max(score, key=score.get)
    return best if score[best] > 0 else "unclear"


def windows(ids: np.ndarray) -> np.ndarray:
    """A 64-bit polynomial hash of every WINDOW consecutive tokens."""
    n = max(len(ids) - WINDOW + 1, 0)
    h = np.zeros(n, np.uint64)
    for j in range(WINDOW):
        h = h * np.uint64(0x9E3779B97F4A7C15) + ids[j : j + n].astype(np.uint64) + np.uint64(1)
    return h


def among(known: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Which of the hashes are in the sorted array."""
    return known[np.searchsorted(known, h).clip(max=len(known) - 1)] == h


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("corpus", type=Path, metavar="CORPUS_TXT_XZ")
    ap.add_argument("tokenizer", type=Path, metavar="TOKENIZER_JSON")
    ap.add_argument("out", type=Path, metavar="OUT_DIR")
    ap.add_argument("--fixtures", type=Path, metavar="DIR", help="also write sample.jsonl, sample.txt, sample-tokens.json there")
    ap.add_argument("--list", action="store_true", help="list the documents taken, with the source they seem to come from")
    args = ap.parse_args()

    docs = lzma.open(args.corpus).read().decode("utf-8", "replace").split("\x00")
    docs = [d for d in docs if len(d) > 200]
    random.Random(0).shuffle(docs)
    tok = Tokenizer.from_file(str(args.tokenizer))

    # Only the first ROW - 1 tokens and the length of each document are kept.
    heads, spans, at, stream = [], [], 0, []
    for i in range(0, len(docs), 500):
        for e in tok.encode_batch(docs[i : i + 500], add_special_tokens=False):
            heads.append([0] + e.ids[: ROW - 1])
            stream.append(np.array([0] + e.ids, np.uint16))
            spans.append((at, at + 1 + len(e.ids)))
            at = spans[-1][1]
    border = int(at * 0.02) // 1024 * 1024
    print(f"{len(docs):,} documents, {at:,} tokens, held out: the first {border:,}")

    known = np.unique(windows(np.concatenate(stream)[border:]))

    def is_known(i: int, length: int = ROW) -> bool:
        h = windows(np.array(heads[i][:length], np.uint16)[1:])
        return len(h) > 0 and among(known, h).mean() > KNOWN_SHARE

    left_out = {i for i, d in enumerate(docs) if LEFT_OUT.search(d) or is_list(d)}
    held_out = [i for i, (s, e) in enumerate(spans) if s >= SKIP_EVAL_TOKENS and e <= border and i not in left_out and not is_known(i)]
    length = SHAPES["eval-documents"][1]
    parts = {
        "eval": held_out,
        "eval-documents": [i for i in held_out if len(heads[i]) >= length and not is_known(i, length)],
        "train": [i for i, (s, _) in enumerate(spans) if s >= border and i not in left_out],
    }
    assert not {docs[i] for i in held_out} & {docs[i] for i in parts["train"]}, "a document is in both parts"
    print("documents:", {k: len(v) for k, v in parts.items()}, "left out:", len(left_out))

    written, shared = {}, []
    args.out.mkdir(parents=True, exist_ok=True)
    for part, (n_rows, row) in SHAPES.items():
        want, ids, n_docs, n_toks = n_rows * row, [], Counter(), Counter()
        passed_over = np.unique(np.concatenate([windows(w) for w in written.values()])) if part == "train" else None
        for i in parts[part]:
            if len(ids) >= want:
                break
            if passed_over is not None and among(passed_over, windows(np.array(heads[i], np.uint16))).any():
                shared.append(i)
                continue
            take = heads[i][:row][: want - len(ids)]
            ids += take
            src = source(docs[i])
            n_docs[src] += 1
            n_toks[src] += len(take)
            if args.list:
                print(part, f"{src:26}", len(docs[i]), repr(docs[i][:150]))
        assert len(ids) == want, f"{part}: only {len(ids)} tokens"
        written[part] = np.array(ids, np.uint16)
        rows = [ids[r * row : (r + 1) * row] for r in range(n_rows)]
        table = pa.table({"tokens": pa.array(rows, type=pa.list_(pa.int32()))})
        pq.write_table(table, args.out / f"{part}.parquet", compression="zstd", **WRITTEN[part])
        print(f"\n{part}.parquet: {n_rows} rows of {row}, {sum(n_docs.values())} documents")
        for name in [*SOURCES, "unclear"]:
            if n_docs[name]:
                print(f"  {name:26} {n_docs[name]:4} documents {n_toks[name]:7,} tokens")

    print("\ntrain passes over", len(shared), "documents that share a window with an evaluation file")
    in_train = np.unique(windows(written["train"]))
    for part in ("eval", "eval-documents"):
        h = windows(written[part])
        print(f"{part}: of {len(h):,} windows {among(in_train, h).sum()} in train, {among(known, h).sum()} in the training part")

    if args.fixtures:
        by = {name: [] for name in PUBLIC_DOMAIN_SAMPLE}
        for i in parts["train"]:
            if 400 < len(docs[i]) < 3000 and source(docs[i]) in by:
                by[source(docs[i])].append(docs[i])
        # three, three, two, two, two documents, taken in turn from the sources
        sample = [by[n][r] for r in range(3) for n in PUBLIC_DOMAIN_SAMPLE if r < len(by[n])][:12]
        args.fixtures.mkdir(parents=True, exist_ok=True)
        with open(args.fixtures / "sample.jsonl", "w", encoding="utf-8") as f:
            for d in sample:
                f.write(json.dumps({"text": d}, ensure_ascii=False) + "\n")
        (args.fixtures / "sample.txt").write_text("\n\n".join(d.strip() for d in sample[:3]) + "\n", encoding="utf-8")
        ids = [tok.encode(d, add_special_tokens=False).ids for d in sample]
        (args.fixtures / "sample-tokens.json").write_text("[\n" + ",\n".join(json.dumps(x, separators=(",", ":")) for x in ids) + "\n]\n")
        print("\nfixtures:", [(source(d), len(d), len(x)) for d, x in zip(sample, ids)])


if __name__ == "__main__":
    main()
