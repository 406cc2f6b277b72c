"""Values of the utility analysis, by scikit-learn and numpy: `make_utility.py OUT/utility.json`.

scikit-learn 1.9.1, scipy 1.17.1, numpy 2.4.6, float64.
"""

import json
import sys

import numpy as np
from scipy.stats import spearmanr
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.preprocessing import StandardScaler

rng = np.random.default_rng(21)
n = 90
geometry = np.round(rng.normal(size=(n, 9)) * rng.uniform(0.1, 30, size=9), 6)
topology = np.round(rng.normal(size=(n, 5)) + geometry[:, :5] * 0.1, 6)
# A column that does not vary: scikit-learn scales it by 1.
topology[:, 4] = 0.25
y = np.round(0.3 * geometry[:, 0] + topology[:, 1] + 0.5 * rng.normal(size=n), 6)
folds = rng.integers(0, 5, size=n)


def fitted(x):
    splits = []
    for fold in range(5):
        train, test = folds != fold, folds == fold
        scaler = StandardScaler().fit(x[train])
        ridge = RidgeCV(alphas=np.logspace(-3, 3, 13)).fit(scaler.transform(x[train]), y[train])
        found = ridge.predict(scaler.transform(x[test]))
        splits.append(
            {
                "alpha": float(ridge.alpha_),
                "r2": float(r2_score(y[test], found)),
                "spearman": float(spearmanr(y[test], found)[0]),
            }
        )
    return splits


# Labels of neighbours, by their definitions.
labels = (rng.random((30, 6)) < 0.25).astype(int)
labels[3] = 0
neighbours = [[int(j) for j in rng.permutation([i for i in range(30) if i != row])[:7]] for row in range(30)]


def targets(row):
    own, near = labels[row], labels[neighbours[row]]
    share = near.mean(axis=0)
    active = (share > 0) | (own > 0)
    p = share[active]
    with np.errstate(divide="ignore", invalid="ignore"):
        h = np.nan_to_num(-p * np.log2(p)) + np.nan_to_num(-(1 - p) * np.log2(1 - p))
    entropy = float(h.mean()) if active.any() else None
    if own.sum() == 0:
        return {"jaccard": None, "any": None, "entropy": entropy}
    both = (near & own).sum(axis=1)
    either = (near | own).sum(axis=1)
    return {"jaccard": float((both / either).mean()), "any": float((both > 0).mean()), "entropy": entropy}


counts = rng.poisson(1.5, size=(25, 12)).astype(float)
scores = PCA(n_components=4, svd_solver="full").fit_transform(counts)
gaps = [float(np.linalg.norm(scores[i] - scores[j])) for i in range(25) for j in range(i)]

json.dump(
    {
        "geometry": geometry.tolist(),
        "topology": topology.tolist(),
        "y": y.tolist(),
        "folds": folds.tolist(),
        "ridge": {
            "geometry": fitted(geometry),
            "topology": fitted(topology),
            "both": fitted(np.hstack([geometry, topology])),
        },
        "labels": labels.tolist(),
        "neighbours": neighbours,
        "targets": [targets(row) for row in range(30)],
        "counts": counts.tolist(),
        "pca": {"components": 4, "distances": gaps},
    },
    open(sys.argv[1], "w"),
)
