"""Splitting and absorption by sets of Python, for tests/features.rs: `python make_topics.py OUT_DIR`.

Written with numpy 2.4.6 and safetensors. 4,000 tokens of a vocabulary of 40, of which 0 is left out, some too rare. 60 latents with random decoder rows: detectors
that miss some occurrences, pairs that share a token by the parity of its occurrence, latents with holes where the token before is another one and a
second, broader latent fires, and noise. F1, the choice of latents, and absorption follow the definitions of `probes/src/features/topics.rs` by sets, token id by token id.
"""

import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

rng = np.random.default_rng(5)
N, V, L, D = 4000, 40, 60, 16
weights = 1.0 / np.arange(1, V + 1) ** 0.9
tokens = rng.choice(V, size=N, p=weights / weights.sum()).astype(np.int64)
rows = rng.normal(size=(L, D)).astype(np.float32)
occurrence = np.zeros(N, dtype=int)
for v in range(V):
    where = np.flatnonzero(tokens == v)
    occurrence[where] = np.arange(len(where))
before = np.r_[-1, tokens[:-1]]

fires = [set() for _ in range(L)]
for latent in range(L):
    kind, v = latent % 5, 1 + latent // 5
    of = tokens == v
    noise = rng.random(N)
    mask = {
        0: of & (noise < rng.uniform(0.5, 1.0)),
        1: of & (occurrence % 3 > 0) | (noise < 0.01),
        2: of & (occurrence % 3 == 0),
        3: of & (before < 3) & (noise < 0.95) | ~of & (noise < 0.2),
        4: noise < 0.03,
    }[kind]
    if kind == 0 and v % 2 == 0:
        mask = of & ~(before < 3) & (noise < 0.97)
    if kind in (1, 2) and v % 2 == 0:
        mask = noise < 0.02
    fires[latent] = set(np.flatnonzero(mask).tolist())


def cosine(a, b):
    a, b = rows[a].astype(np.float64), rows[b].astype(np.float64)
    return a @ b / np.sqrt((a @ a) * (b @ b))


def f1(predicted, true):
    hits = len(predicted & true)
    precision, recall = hits / len(predicted) if predicted else 0.0, hits / len(true)
    return 2 * precision * recall / (precision + recall) if hits else 0.0


out = []
for v in range(1, V):
    true = set(np.flatnonzero(tokens == v).tolist())
    if len(true) < 50:
        continue
    present = [j for j in range(L) if len(fires[j] & true) >= 10]
    own = [j for j in present if len(fires[j] & true) >= 0.1 * len(fires[j])]
    chosen, union, reached = [], set(), []
    while own and len(chosen) < 10:
        values = [f1(union | fires[j], true) for j in own]
        best = int(np.argmax(values))
        if reached and values[best] - reached[-1] <= 0.03:
            break
        union |= fires[own[best]]
        reached.append(values[best])
        chosen.append(own.pop(best))
    absorbers, absorbed = [], 0
    if chosen:
        absorbers = [
            j for j in present
            if j not in chosen and len(fires[j] & true & union) <= 0.1 * len(fires[j] & true) and cosine(j, chosen[0]) > 0
        ]
        theirs = set().union(*(fires[j] & true for j in absorbers)) if absorbers else set()
        elsewhere = true - theirs
        if absorbers and len(elsewhere & union) >= 0.9 * len(elsewhere):
            absorbed = len(theirs - union)
        else:
            absorbers = []
    out.append((v, len(true), reached[0] if reached else 0.0, reached[-1] if reached else 0.0, chosen, absorbers, absorbed))

width = max(len(latents) for row in out for latents in row[4:6])
padded = lambda lists: np.array([l + [-1] * (width - len(l)) for l in lists], dtype=np.int64)
positions = np.array([at for of in fires for at in sorted(of)], dtype=np.int64)
offsets = np.cumsum([0] + [len(of) for of in fires]).astype(np.int64)
print(len(out), "topics,", sum(len(r[4]) > 1 for r in out), "split,", sum(r[6] > 0 for r in out), "absorbed,", sum(r[3] > 0.6 for r in out), "learned")
target = Path(sys.argv[1])
target.mkdir(parents=True, exist_ok=True)
save_file(
    {
        "tokens": tokens, "positions": positions, "offsets": offsets, "rows": rows,
        "token": np.array([r[0] for r in out]), "occurrences": np.array([r[1] for r in out]),
        "f1": np.array([[r[2], r[3]] for r in out], dtype=np.float32),
        "latents": padded([r[4] for r in out]), "absorbers": padded([r[5] for r in out]),
        "absorbed": np.array([r[6] for r in out]),
    },
    target / "topics.safetensors",
)
