"""Values for the search for circular features, none of them computed by this workspace.

    pip install numpy==2.4.6 scikit-learn==1.9.1 dreimac==0.3.2
    python make_circles.py > ../circles/circles.json

- separability: mutual information by scikit-learn's `mutual_info_score` of bins by `numpy.histogram_bin_edges`;
- mixture: a grid of 180 angles and 4001 offsets;
- order: Fourier harmonics by `numpy.fft`, all orders by itertools;
- spectral: scikit-learn's `SpectralClustering`;
- coordinate: DREiMac's `CircularCoords` on all points as landmarks;
- correlation: the double sum of Fisher and Lee (1983).
"""

import itertools
import json

import numpy as np
from dreimac import CircularCoords
from sklearn.cluster import SpectralClustering
from sklearn.metrics import mutual_info_score

rng = np.random.default_rng(7)


def rounded(x):
    return np.round(np.asarray(x), 6)


def separability(x):
    found = []
    for angle in np.linspace(0, 2 * np.pi, 100):
        c, s = np.cos(angle), np.sin(angle)
        y = x @ np.array([[c, -s], [s, c]])
        binned = []
        for column in y.T:
            edges = np.histogram_bin_edges(column, bins=10)
            binned.append(np.clip(np.digitize(column, edges) - 1, 0, 9))
        found.append(mutual_info_score(*binned) / np.log(2))
    return min(found)


def mixture(x, epsilon=0.1):
    best = 0.0
    for angle in np.arange(180) * np.pi / 180:
        p = x @ np.array([np.cos(angle), np.sin(angle)])
        for c in np.linspace(p.min() - p.std(), p.max() + p.std(), 4001):
            z = p - c
            best = max(best, np.mean(np.abs(z) < epsilon * np.sqrt(np.mean(z**2))))
    return best


def circle(n, noise):
    angle = rng.random(n) * 2 * np.pi
    return rounded(np.c_[np.cos(angle), np.sin(angle)] + rng.normal(size=(n, 2)) * noise)


def share(means):
    centred = means - means.mean(0)
    power = np.abs(np.fft.fft(centred, axis=0)) ** 2
    return (power[1] + power[-1]).sum() / power.sum()


planes = {
    "circle": circle(300, 0.1),
    "gaussian": rounded(rng.normal(size=(300, 2)) @ np.array([[1.0, 0.3], [0.0, 0.5]])),
    "mixture": rounded(np.where(rng.random((300, 1)) < 0.5, 1, 0) * np.c_[rng.random(300), np.zeros(300)]
                       + np.where(rng.random((300, 1)) < 0.3, 1, 0) * np.c_[np.zeros(300), rng.random(300)]),
}
out = {"planes": [
    {"name": name, "points": x.tolist(), "separability": separability(x), "mixture": mixture(x)}
    for name, x in planes.items()
]}

out["orders"] = []
for m, noise in [(5, 0.5), (7, 0.4), (7, 2.0), (8, 1.0)]:
    k = 2 * np.pi * np.arange(m) / m
    means = rounded(np.c_[np.cos(k), np.sin(k), np.zeros((m, 4))] + rng.normal(size=(m, 6)) * noise)
    observed = share(means)
    orders = [(0, *rest) for rest in itertools.permutations(range(1, m)) if rest[0] < rest[-1]]
    reached = sum(share(means[list(order)]) >= observed - 1e-12 for order in orders)
    out["orders"].append({"means": means.tolist(), "share": observed, "p": reached / len(orders), "orders": len(orders)})

centres = rng.normal(size=(6, 16))
rows = rounded(np.concatenate([c + 0.35 * rng.normal(size=(8, 16)) for c in centres]))
units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
affinity = 1 - np.arccos(np.clip(units @ units.T, -1, 1)) / np.pi
labels = SpectralClustering(6, affinity="precomputed", random_state=0).fit_predict(affinity)
out["spectral"] = {"rows": rows.tolist(), "labels": labels.tolist()}

x = circle(60, 0.08)
coords = CircularCoords(x, n_landmarks=60, prime=47)
theta = coords.get_coordinates(perc=0.5, standard_range=False)
out["coordinate"] = {"points": x.tolist(), "angles": np.mod(theta, 2 * np.pi).tolist()}

a = rng.random(40) * 2 * np.pi
b = np.mod(1.0 - a + rng.normal(size=40) * 0.5, 2 * np.pi)
a, b = rounded(a), rounded(b)
da, db = np.sin(a[:, None] - a), np.sin(b[:, None] - b)
out["correlation"] = {"a": a.tolist(), "b": b.tolist(),
                      "rho": (da * db).sum() / np.sqrt((da**2).sum() * (db**2).sum())}
print(json.dumps(out))
