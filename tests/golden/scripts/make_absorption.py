#!/usr/bin/env python3
"""First letters of made-up words through SAEBench's own functions, for tests/absorption.rs.

    pip install torch scikit-learn pandas tqdm safetensors
    pip download --no-deps sae-bench==0.6.0 && unzip sae_bench-*.whl -d PACKAGE
    python make_absorption.py PACKAGE tests/golden/absorption

624 words, 24 of each letter, half of them in one of two topics of the letter. An activation is the letter's direction, the topic's, one of its own
and an offset. 100 latents with ReLU: 26 for letters, of which some are silent on a topic, 52 for topics, whose rows have a part of the letter's direction in
some letters, and 22 of noise. In some letters the letter's latent reads one topic alone, so that a split is found.

The probes of letters are scikit-learn's; all else is the package's: k-sparse probes, splits, absorption, means over letters. Its Adam begins at 0 and
sees all words a step; scikit-learn goes on to a tolerance of 1e-12. All in float64, but where the package rounds to float32.
"""

import importlib
import json
import statistics
import sys
import types
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

package, out = Path(sys.argv[1]), Path(sys.argv[2])
torch.set_default_dtype(torch.float64)

# What the package imports and only annotates with.
for name in ("sae_lens", "transformer_lens"):
    module = types.ModuleType(name)
    module.SAE = module.HookedTransformer = object
    sys.modules[name] = module
for name in ("sae_bench", "sae_bench.evals"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [str(package / name.replace(".", "/"))]
sparse = importlib.import_module("sae_bench.evals.absorption.k_sparse_probing")
probing = importlib.import_module("sae_bench.evals.absorption.probing")
calculator = importlib.import_module("sae_bench.evals.absorption.feature_absorption_calculator")
feature = importlib.import_module("sae_bench.evals.absorption.feature_absorption")
LETTERS = importlib.import_module("sae_bench.evals.absorption.vocab").LETTERS

D, OF_LETTER, TRAIN, TOPICS, NOISE = 40, 24, 0.75, 2, 22
rng = np.random.default_rng(7)
unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
letter_dirs = unit(rng.normal(size=(26, D)))
topic_dirs = unit(rng.normal(size=(26, TOPICS, D)))
offset = rng.normal(size=D) * 0.5

words, letters, topics, x = [], [], [], []
for letter in range(26):
    for number in range(OF_LETTER):
        # A quarter in each topic, half in none.
        topic = number % 4 if number % 4 < TOPICS else -1
        words.append(f" {LETTERS[letter]}{number}")
        letters.append(letter)
        topics.append(topic)
        own = offset + 4.0 * rng.uniform(0.7, 1.3) * letter_dirs[letter] + rng.normal(size=D) * 0.3
        x.append(own + (3.0 * topic_dirs[letter, topic] if topic >= 0 else 0.0))
x, letters, topics = np.array(x, dtype=np.float32), np.array(letters), np.array(topics)
order = rng.permutation(len(words))
train, test = np.sort(order[: int(TRAIN * len(words))]), np.sort(order[int(TRAIN * len(words)) :])

rows, bias, decoder = [], [], []
for letter in range(26):
    # Silent on the first topic (a third of the letters), writing half of it there (a third), or active only on the second topic (every fifth).
    against = {0: 1.5, 1: 0.5, 2: 0.0}[letter % 3]
    row = letter_dirs[letter] - against * topic_dirs[letter, 0]
    if letter % 5 == 4:
        row = letter_dirs[letter] + topic_dirs[letter, 1] - 1.5 * topic_dirs[letter, 0]
    rows.append(row)
    bias.append(-1.6 if letter % 5 != 4 else -3.5)
    decoder.append(letter_dirs[letter])
for letter in range(26):
    for topic in range(TOPICS):
        rows.append(topic_dirs[letter, topic] + 0.3 * letter_dirs[letter])
        bias.append(-1.8)
        decoder.append(topic_dirs[letter, topic] + (0.9 if letter % 3 < 2 else 0.0) * letter_dirs[letter])
for _ in range(NOISE):
    rows.append(rng.normal(size=D) * 0.4)
    bias.append(-0.5)
    decoder.append(rng.normal(size=D))
w_enc = np.array(rows, dtype=np.float32).T.copy()
b_enc = np.array(bias, dtype=np.float32)
w_dec = unit(np.array(decoder)).astype(np.float32)
b_dec = offset.astype(np.float32)


class Dictionary:
    """What the package asks of an SAE."""

    device, dtype = torch.device("cpu"), torch.float64
    cfg = types.SimpleNamespace(d_sae=w_enc.shape[1])
    W_enc, W_dec = (torch.tensor(w).double() for w in (w_enc, w_dec))

    def encode(self, acts):
        return torch.relu((acts.double() - torch.tensor(b_dec).double()) @ self.W_enc + torch.tensor(b_enc).double())


sae = Dictionary()
activations = torch.tensor(x).double()


def fitted(x, y, c=1.0):
    return LogisticRegression(
        C=c, class_weight="balanced", tol=1e-12, max_iter=100_000, solver="newton-cholesky"
    ).fit(np.asarray(x, dtype=np.float64), y)


# The letters' probes: mean loss with pos_weight + ½·26·1e-4·|w|², as C of balanced classes.
probe = probing.LinearProbe(D, 26)
for letter in range(26):
    y = letters[train] == letter
    n, others = len(train), int((~y).sum())
    found = fitted(x[train], y, 2.0 * others / n / (n * 26e-4))
    with torch.no_grad():
        probe.weights[letter] = torch.tensor(found.coef_[0])
        probe.biases[letter] = float(found.intercept_[0])


class AtZero(probing.LinearProbe):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        torch.nn.init.zeros_(self.fc.weight)
        torch.nn.init.zeros_(self.fc.bias)


class Converged(LogisticRegression):
    def __init__(self, max_iter=500, class_weight=None):
        super().__init__(class_weight=class_weight, tol=1e-12, max_iter=100_000, solver="newton-cholesky")

    def fit(self, x, y):
        return super().fit(x.astype(np.float64), y)


probing.LinearProbe = AtZero
sparse.LogisticRegression = Converged
# Eight steps an epoch, each on all words.
STEPS = 8


class InTurn:
    def __init__(self, dataset, batch_size, shuffle):
        self.batch = dataset.tensors

    def __iter__(self):
        return iter([self.batch] * STEPS)

    def __len__(self):
        return STEPS


probing.DataLoader = InTurn
labelled = lambda rows: [(words[row], int(letters[row])) for row in rows]
kept = {}
trained = sparse.train_sparse_multi_probe


def keeping(*args, **kwargs):
    kept["probe"] = trained(*args, **kwargs)
    return kept["probe"]


sparse.train_sparse_multi_probe = keeping
MOST = 10
k_probes = sparse.train_k_sparse_probes(
    sae, labelled(train), activations[train], ks=list(range(1, MOST + 1)), precalc_sae_acts=True
)
raw = sparse.eval_probe_and_sae_k_sparse_raw_scores(sae, probe, k_probes, labelled(test), activations[test])
metadata = sparse.sae_k_sparse_metadata(sae, probe, k_probes, "made", 0)
metrics = sparse.build_metrics_df(raw, metadata, MOST)
sparse.add_feature_splits_to_metrics_df(metrics, MOST)


class Model:
    """Gives the activation of a prompt's last word."""

    tokenizer = object()

    def to_tokens(self, text):
        return [[0]]

    def run_with_cache(self, prompts, names_filter):
        rows = [words.index(" " + prompt.rsplit(" ", 1)[1].rstrip(":")) for prompt in prompts]
        return None, {names_filter[0]: activations[rows][:, None, :]}


feature.load_experiment_df = lambda *_: raw
likely = feature.get_stats_and_likely_false_negative_tokens(metrics, "made", 0, Path("."))
scored = calculator.FeatureAbsorptionCalculator(
    model=Model(), icl_word_list=words, max_icl_examples=1, base_template="{word}:", word_token_pos=-1,
    full_absorption_probe_cos_sim_threshold=feature.FULL_ABSORPTION_PROBE_COS_THRESHOLD,
    absorption_fraction_probe_cos_sim_threshold=feature.ABSORPTION_FRACTION_PROBE_COS_THRESHOLD,
    probe_projection_proportion_threshold=feature.ABSORPTION_PROBE_PROJECTION_PROPORTION_THRESHOLD,
    absorption_fraction_max_absorbing_latents=feature.ABSORPTION_FRACTION_MAX_ABSORBING_LATENTS,
)
# `evals/absorption/main.py` runs everything when it is imported in part; this function of it is all that is needed.
source = (package / "sae_bench/evals/absorption/main.py").read_text()
names = {"pd": importlib.import_module("pandas")}
exec(source[source.index("def _aggregate_results_df") : source.index("def arg_parser")], names)
per_word = []
results = []
for letter, stats in likely.items():
    of = scored.calculate_absorption(
        sae, stats.potential_false_negatives, probe.weights[LETTERS.index(letter)].detach(), stats.split_feats, 0, False
    )
    for word in of.word_results:
        per_word.append((words.index(word.word), float(word.absorption_fraction), bool(word.is_full_absorption)))
        results.append({
            "letter": letter, "absorption_fraction": float(word.absorption_fraction), "is_full_absorption": word.is_full_absorption,
            "num_probe_true_positives": stats.probe_true_positives, "split_feats": stats.split_feats,
        })
together = names["_aggregate_results_df"](names["pd"].DataFrame(results))
learned = metrics.set_index("letter")["f1_probe"]
together = together[[learned[letter] > 0.6 for letter in together["letter"]]]
means = {
    "mean_absorption_fraction_score": statistics.mean(together["mean_absorption_fraction"]),
    "mean_full_absorption_score": statistics.mean(together["full_absorption_rate"]),
    "mean_num_split_features": statistics.mean(together["num_split_feats"]),
}
print(means, "letters", len(together), "words", len(per_word), "partly", sum(0 < w[1] < 1 for w in per_word), "full", sum(w[2] for w in per_word))
print(together.to_string())

out.mkdir(parents=True, exist_ok=True)
save_file(
    {
        "x": x, "letters": letters, "train": train, "test": test,
        "w_enc": w_enc, "b_enc": b_enc, "w_dec": w_dec, "b_dec": b_dec,
    },
    out / "words.safetensors",
)
by_letter = metrics.set_index("letter")
expected = {
    "means": means,
    "letters": [
        {
            "probe": [float(v) for v in probe.weights[at].detach()], "intercept": float(probe.biases[at].detach()),
            "probe_f1": float(by_letter.loc[letter, "f1_probe"]),
            "weights": [float(v) for v in kept["probe"].weights[at].detach()] if at < 3 else None,
            "main": [int(v) for v in by_letter.loc[letter, "split_feats"]],
            "f1": [float(by_letter.loc[letter, f"f1_sparse_sae_{k}"]) for k in range(1, MOST + 1)],
            "true_positives": int(likely[letter].probe_true_positives),
        }
        for at, letter in enumerate(LETTERS)
    ],
    "words": per_word,
}
(out / "expected.json").write_text(json.dumps(expected) + "\n")
