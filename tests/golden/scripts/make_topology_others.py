"""More clouds in the layout of tests/golden/topology: three that are large enough to have loops, and some that are barely clouds.

    pip install gudhi==3.13.0 ripser==0.6.15 numpy scipy
    python tests/golden/scripts/make_topology_others.py tests/golden/topology-others

Diagrams are GUDHI's of the full simplex tree (float64) and ripser.py's (float32), of distances by scipy. Bars of no length are left out. The
statistics are numpy's of GUDHI's bars.
"""

import json
import sys
from pathlib import Path

import gudhi
import numpy as np
import ripser
from scipy.spatial.distance import pdist, squareform

OUT = Path(sys.argv[1])


def distances(points, metric):
    if metric == "tanimoto":
        dot = points @ points.T
        squares = np.diag(dot)
        either = squares[:, None] + squares - dot
        return np.where(either > 0, 1 - dot / np.where(either > 0, either, 1), 0) * (1 - np.eye(len(points)))
    return squareform(pdist(points, metric))


def bars(pairs):
    kept = sorted((float(birth), float(death)) for birth, death in pairs if death > birth)
    return [[birth, None if np.isinf(death) else death] for birth, death in kept]


def of_gudhi(d, threshold):
    longest = d.max(initial=0.0) if threshold is None else threshold
    tree = gudhi.RipsComplex(distance_matrix=d, max_edge_length=float(longest)).create_simplex_tree(max_dimension=2)
    # Else the highest dimension that has simplices is left out: H0 of one point, H1 of a ring of edges.
    tree.compute_persistence(min_persistence=0, persistence_dim_max=True)
    return {f"H{k}": bars(tree.persistence_intervals_in_dimension(k)) for k in (0, 1)}


def of_ripser(d, threshold):
    found = ripser.ripser(d, distance_matrix=True, thresh=np.inf if threshold is None else threshold)["dgms"]
    return {f"H{k}": bars(found[k]) for k in (0, 1)}


def statistics(h1, d):
    ends = np.array([bar for bar in h1 if bar[1] is not None], float).reshape(-1, 2)
    found = {"n": len(ends), "enclosing_radius": float(d.max(axis=1).min()), "diameter": float(d.max())}
    if len(ends):
        lengths = np.sort(ends[:, 1] - ends[:, 0])[::-1]
        share = lengths / lengths.sum()
        found |= {
            "max": lengths[0],
            "total": lengths.sum(),
            "total_squared": (lengths**2).sum(),
            "mean": lengths.mean(),
            "p95": np.quantile(lengths, 0.95),
            "top": lengths[:5].tolist(),
            "entropy_nats": -(share * np.log(share)).sum(),
            "max_death_over_birth": (ends[:, 1] / ends[:, 0]).max(),
        }
    return {key: value if isinstance(value, (int, list)) else float(value) for key, value in found.items()}


def landmarks(points, count):
    """Each farthest from those before it, the first row first, ties to the lowest."""
    chosen, near = [0], np.linalg.norm(points - points[0], axis=1)
    while len(chosen) < count and near.max() > 0:
        chosen.append(int(near.argmax()))
        near = np.minimum(near, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return chosen


def write(name, about, points, runs, count=0):
    points = np.round(np.asarray(points, float), 6)
    cloud = {"name": name, "about": about, "n": len(points), "dim": points.shape[1], "points": points.tolist(), "runs": []}
    cloud["versions"] = {"gudhi": gudhi.__version__, "ripser": ripser.__version__, "numpy": np.__version__}
    for metric, threshold in runs:
        d = distances(points, metric)
        gudhis = of_gudhi(d, threshold)
        run = {"metric": metric, "thresh": threshold, "gudhi": gudhis, "ripser": of_ripser(d, threshold)}
        cloud["runs"].append(run | {"stats": statistics(gudhis["H1"], d)})
    if count:
        cloud["landmarks"] = landmarks(points, count)
    (OUT / f"{name}.json").write_text(json.dumps(cloud, separators=(",", ":")) + "\n")
    print(name, *(f"{run['metric']}: {len(run['gudhi']['H0'])}, {len(run['gudhi']['H1'])}" for run in cloud["runs"]))


OUT.mkdir(parents=True, exist_ok=True)
rng = np.random.default_rng(31)
turn = rng.random(70) * 2 * np.pi
knot = np.c_[np.sin(turn) + 2 * np.sin(2 * turn), np.cos(turn) - 2 * np.cos(2 * turn), -np.sin(3 * turn)]
all_ways = ["euclidean", "cityblock", "chebyshev", "cosine"]
write("trefoil", "70 points of a knot in space", knot, [(metric, None) for metric in all_ways] + [("euclidean", 2.5)], 25)
rings = np.zeros((80, 6))
for ring in range(4):
    a = rng.random(20) * 2 * np.pi
    rings[20 * ring : 20 * ring + 20, [ring, ring + 1]] = np.c_[np.cos(a), np.sin(a)] * (1 + ring)
write("rings", "four rings of 20 points in planes of R^6, which share an axis with the next", rings + 0.02 * rng.normal(size=rings.shape), [("euclidean", None), ("cityblock", 3.0)], 20)
counts = rng.poisson(np.repeat(rng.gamma(0.5, 2, size=(3, 24)), 20, axis=0)).astype(float)
write("counts", "60 rows of 24 counts of three kinds", counts, [("tanimoto", None), ("cityblock", None)])

write("one", "one point", [[1.5, -2.0]], [("euclidean", None), ("euclidean", 1.0)])
write("two", "two points", [[0.0, 0.0], [3.0, 4.0]], [("euclidean", None), ("cityblock", None), ("euclidean", 4.0), ("euclidean", 5.0)])
write("copies", "nine copies of one point", np.ones((9, 3)), [("euclidean", None), ("cosine", None), ("chebyshev", None)])
square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
write("square-twice", "the corners of a square, each twice", np.r_[square, square], [("euclidean", None), ("chebyshev", None), ("cityblock", None)], 4)
line = np.outer(np.r_[0:12, 3:6], [1.0, 2.0, -2.0])
write("line", "points of a line in space, three of them twice", line, [("euclidean", None), ("chebyshev", None), ("euclidean", 6.0)], 12)
write("simplex", "corners of a regular simplex: all distances are equal", np.eye(10), [("euclidean", None), ("cosine", None), ("jaccard", None)])
cross = np.r_[np.eye(4), -np.eye(4)]
write("cross", "corners of a cross-polytope of four dimensions: two distances", cross, [("euclidean", None), ("cosine", None), ("cityblock", None)])
