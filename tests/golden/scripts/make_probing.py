#!/usr/bin/env python3
"""Probes of the latents of a bundled SAE by scikit-learn, sae-probes' own code, and a code of the labels in numpy.

    pip install torch transformers scikit-learn pandas zstandard pyarrow safetensors
    pip download --no-deps sae_probes==0.4.2 && unzip sae_probes-*.whl -d PACKAGE
    python make_probing.py MODEL tests/golden PACKAGE

MODEL is models/bundled/small. Texts are two windows of 32 tokens of each row of eval-documents.parquet, read by transformers; latents are those
of eval-small/L3_k8 by its formula in torch, in float32, a mean over the 31 tokens behind the first. A text is positive if it has a digit.
Writes probing/latents.safetensors and probing/expected.json. What is fitted is fitted to a tolerance of 1e-12, and all else is float64.
"""

import functools
import importlib
import json
import sys
import types
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from safetensors.numpy import save_file
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, roc_auc_score
from transformers import AutoModelForCausalLM, AutoTokenizer

model_dir, golden, package = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
TOKENS, LAYER, SEED = 32, 3, 0
CS = [1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3, 1e4]
FRACTIONS = [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.0625, 0.125, 0.25, 0.5, 1.0]

rows = np.array(pq.read_table(model_dir.parent / "eval-documents.parquet")["tokens"].to_pylist())
windows = np.concatenate([rows[:, 1:TOKENS], rows[:, TOKENS + 40 : 2 * TOKENS + 39]])
tokens = np.concatenate([np.zeros((len(windows), 1), int), windows], axis=1)
documents = np.tile(np.arange(len(rows)), 2)

model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).eval()
with torch.no_grad():
    out = model(torch.tensor(tokens), output_hidden_states=True)
x = out.hidden_states[LAYER + 1]
w = load_file(golden / "eval-small/L3_k8/sae_weights.safetensors")
cfg = json.loads((golden / "eval-small/L3_k8/cfg.json").read_text())
with torch.no_grad():
    pre = (x - w["b_dec"] if cfg["apply_b_dec_to_input"] else x) @ w["W_enc"] + w["b_enc"]
    if cfg["rescale_acts_by_decoder_norm"]:
        pre = pre * w["W_dec"].norm(dim=-1)
    top = pre.topk(cfg["k"], dim=-1)
    z = torch.zeros_like(pre).scatter(-1, top.indices, top.values.relu())
pooled = z[:, 1:].double().mean(1).float().numpy()
features = pooled.astype(np.float64)

tokenizer = AutoTokenizer.from_pretrained(model_dir)
labels = np.array([any(c.isdigit() for c in tokenizer.decode(ids)) for ids in windows.tolist()])
rng = np.random.default_rng(SEED)
shuffled = rng.permutation(len(rows))
train = rng.permutation(np.flatnonzero(np.isin(documents, shuffled[:90])))
test = rng.permutation(np.flatnonzero(np.isin(documents, shuffled[90:])))
print(len(features), "texts,", labels.sum(), "positive,", len(train), "to fit on,", (pooled != 0).sum(), "entries")


def by_difference(features, rows):
    y = labels[rows]
    difference = np.abs(features[rows][y].mean(0) - features[rows][~y].mean(0))
    return np.argsort(-difference, kind="stable")


def fitted(x, y, c):
    solver = "newton-cholesky" if x.shape[1] < len(x) else "lbfgs"
    return LogisticRegression(C=c, tol=1e-12, max_iter=1_000_000, solver=solver).fit(x, y)


def scored(decisions):
    y, p = labels[test], decisions > 0
    return {
        "accuracy": accuracy_score(y, p), "balanced_accuracy": balanced_accuracy_score(y, p),
        "auroc": roc_auc_score(y, decisions), "f1": f1_score(y, p), "weighted_f1": f1_score(y, p, average="weighted"),
    }


active = np.flatnonzero((features != 0).any(0))
saebench = []
for k in (1, 2, 5, 16, None):
    columns = by_difference(features, train)[:k] if k else active
    probe = fitted(features[train][:, columns], labels[train], 1.0)
    decisions = probe.decision_function(features[test][:, columns])
    of_k = {"columns": columns.tolist(), "weights": probe.coef_[0].tolist(), "intercept": float(probe.intercept_[0])} if k else {}
    saebench.append({"k": k, **of_k, "decisions": decisions.tolist(), "scores": scored(decisions)})

# The package's own functions, with a solver that gets to the end. What it imports and is not needed here is left out.
for name in ("xgboost", "sae_lens", "transformer_lens", "tqdm"):
    sys.modules.setdefault(name, types.ModuleType(name))
sys.modules["sae_probes"] = types.ModuleType("sae_probes")
sys.modules["sae_probes"].__path__ = [str(package / "sae_probes")]
training = importlib.import_module("sae_probes.utils_training")
seen = []


class Converged(LogisticRegression):
    def __init__(self, C=1.0, random_state=None, max_iter=1000):
        super().__init__(C=C, tol=1e-12, max_iter=1_000_000, solver="newton-cholesky")
        seen.append(C)


training.LogisticRegression = Converged
source = (package / "sae_probes/run_sae_evals.py").read_text()
body = source[source.index("def get_sorted_indices") : source.index("def run_sae_eval(")]
names = {"torch": torch, "Callable": __import__("typing").Callable}
exec(body, names)
order = names["get_sorted_indices"](
    torch.tensor(features[train]), torch.tensor(labels[train].astype(int)), names["mean_act_normalization"]
)
sae_probes = []
for k in (1, 2, 5, 16):
    columns = order[:k].numpy()
    found = training.find_best_reg(
        X_train=features[train][:, columns], y_train=labels[train].astype(int), X_test=features[test][:, columns],
        y_test=labels[test].astype(int), penalty="l2", seed=42,
    )
    m = found.metrics
    sae_probes.append(
        {"k": k, "columns": columns.tolist(), "c": seen[-1], "accuracy": m.test_acc, "auroc": m.test_auc, "weighted_f1": m.test_f1}
    )


def prequential(order, k):
    """Bits of each label in an order, by the definition in probes/src/probing/prequential.rs."""
    n, y = len(order), labels[order]
    ends = sorted({int(f * n) for f in FRACTIONS if int(f * n) >= 8})
    log_weights, bits, start = np.zeros(len(CS)), [], 0
    for end in ends:
        before = y[:start]
        if before.all() or not before.any():
            for t in range(start, end):
                same = (y[:t] == y[t]).sum()
                bits.append(-np.log2((same + 0.5) / (t + 1)))
        else:
            prefix, block = order[:start], order[start:end]
            columns = by_difference(features, prefix)[:k] if k else active
            a, b = features[prefix][:, columns], features[block][:, columns]
            mean = a.mean(0)
            scale = np.sqrt(((a - mean) ** 2).sum(1).mean()) or 1.0
            costs = []
            for c in CS:
                d = fitted((a - mean) / scale, before, c).decision_function((b - mean) / scale)
                p = np.exp(-np.logaddexp(0, np.where(y[start:end], -d, d)))
                epsilon = 1 / (start + 2)
                costs.append(-np.log((1 - epsilon) * p + epsilon / 2))
            for t in range(end - start):
                prior = np.logaddexp.reduce(log_weights)
                log_weights = log_weights - np.array(costs)[:, t]
                bits.append((prior - np.logaddexp.reduce(log_weights)) / np.log(2))
        start = end
    return bits


orders = [rng.permutation(len(features)) for _ in range(3)]
codes = []
for k in (1, 5, None):
    of_orders = [prequential(order, k) for order in orders]
    of_rows = np.zeros(len(features))
    for order, bits in zip(orders, of_orders):
        of_rows[order] += np.array(bits) / len(orders)
    codes.append({"k": k, "totals": [sum(bits) for bits in of_orders], "of_rows": of_rows.tolist()})
label_only, seen_labels = 0.0, []
for y in labels:
    label_only -= np.log2((seen_labels.count(y) + 0.5) / (len(seen_labels) + 1))
    seen_labels.append(y)

(golden / "probing").mkdir(exist_ok=True)
starts = np.concatenate([[0], np.cumsum((pooled != 0).sum(1))]).astype(np.int32)
save_file(
    {
        "tokens": tokens.astype(np.int16), "starts": starts, "indices": np.nonzero(pooled)[1].astype(np.int16),
        "values": pooled[pooled != 0].astype(np.float32),
    },
    golden / "probing/latents.safetensors",
)
expected = {
    "columns": features.shape[1], "labels": labels.tolist(), "documents": documents.tolist(), "train": train.tolist(),
    "test": test.tolist(), "saebench": saebench, "sae_probes": sae_probes, "orders": [o.tolist() for o in orders], "codes": codes,
    "label_only_bits": label_only,
}
(golden / "probing/expected.json").write_text(json.dumps(expected, separators=(",", ":")) + "\n")
