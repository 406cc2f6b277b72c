"""Scores of latents by numpy and scipy, for tests/features.rs: `python make_features.py OUT_DIR`.

Written with numpy 2.4.6, scipy 1.17.1 and safetensors. 24 contexts of 16 tokens of a vocabulary of 12; token 0 separates documents, and each
context begins one. Latents: a token detector with noise, a bigram detector, a position detector, a document detector, dense noise with both
signs, rare noise, one that never fires.
"""

import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from scipy.spatial.distance import jaccard
from scipy.stats import entropy

rng = np.random.default_rng(19)
S, T, V = 24, 16, 12
N = S * T
tokens = rng.choice(V, size=(S, T), p=np.r_[0.03, np.full(V - 1, 0.97 / (V - 1))])
flat = tokens.ravel()
position = np.tile(np.arange(T), S)
previous = np.where(position > 0, np.r_[0, flat[:-1]], V)
document = np.cumsum((flat == 0) | (position == 0)) - 1

size = rng.uniform(0.5, 2.0, N)
a = np.stack([
    size * (flat == 3) * (rng.random(N) < 0.95) + 0.1 * (rng.random(N) < 0.05),
    size * (previous == 5),
    size * (position < 2),
    size * (document % 7 == 2),
    rng.normal(size=N),
    size * (rng.random(N) < 0.04),
    np.zeros(N),
]).astype(np.float32)


def eta2(x, by):
    x = x.astype(np.float64)
    means = np.array([x[by == value].mean() for value in by])
    total = x.var()
    return means.var() / total if total > 0 else np.nan


def mass(x):
    return np.bincount(flat, weights=np.abs(x.astype(np.float64)), minlength=V)


alive = a.any(axis=1)
fires = a != 0
distance = np.array([[1.0 if i == j or not (fires[i] & fires[j]).any() else jaccard(fires[i], fires[j])
                      for j in range(len(a))] for i in range(len(a))])
shares = np.array([mass(x) / max(mass(x).sum(), 1e-300) for x in a])
expected = {
    "token_entropy": np.where(alive, [entropy(p, base=2) if p.any() else np.nan for p in shares], np.nan),
    "purity": np.where(alive, shares.max(axis=1), np.nan),
    "mean": np.array([x[x != 0].astype(np.float64).mean() if x.any() else np.nan for x in a]),
    "eta2_token": np.array([eta2(x, flat) for x in a]),
    "eta2_previous": np.array([eta2(x, previous) for x in a]),
    "eta2_position": np.array([eta2(x, position) for x in a]),
    "eta2_document": np.array([eta2(x, document) for x in a]),
    "jaccard": 1.0 - distance.min(axis=1),
    # The mean of η² over permutations, drawn: the exact value is (J − 1)/(N − 1).
    "chance": np.array([np.mean([eta2(rng.permutation(a[0]), by) for _ in range(4000)])
                        for by in (flat, previous, position, document)]),
}
out = Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)
save_file({
    "tokens": tokens.astype(np.int64),
    "values": a,
    "partner": distance.argmin(axis=1).astype(np.int64),
    **{name: values.astype(np.float32) for name, values in expected.items()},
}, out / "scores.safetensors")
