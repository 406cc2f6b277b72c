#!/usr/bin/env python3
"""One data set of sae-probes by the package's own functions and by `assay probe`, with a random dictionary.

    pip install torch transformers scikit-learn pandas zstandard safetensors
    pip download --no-deps sae_probes==0.4.2 && unzip sae_probes-*.whl -d PACKAGE
    python sae_probes.py ASSAY MODEL PACKAGE [105_click_bait] [HOOK_LAYER] [TEXTS]

ASSAY is the program, MODEL a checkpoint of transformers that both read (models/bundled/small). The dictionary is of random directions, TopK, in
SAELens' format. The package draws its texts with numpy and assay with its own generator, so that numbers agree within the noise of the
test texts and not in every digit: exit status 1 if one of the package's is outside assay's interval, made wider by the package's own error.

Of a set with more than TEXTS texts (1500) both read the same ones, drawn once. It says what it does and how long that took; a part that
takes more than ten minutes ends the run with status 2.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import types
from pathlib import Path
from typing import Callable

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

assay, model_dir, package = sys.argv[1], sys.argv[2], Path(sys.argv[3])
task = sys.argv[4] if len(sys.argv) > 4 else "105_click_bait"
layer = int(sys.argv[5]) if len(sys.argv) > 5 else 3
most = int(sys.argv[6]) if len(sys.argv) > 6 else 1500
LIMIT = 600


class part:
    """Says what is done and how long it took, and ends the run where it takes more than LIMIT seconds."""

    def __init__(self, what):
        self.what = what

    def __enter__(self):
        print(f"{self.what} …", flush=True)
        self.started, self.watch = time.monotonic(), threading.Timer(LIMIT, self.late)
        self.watch.daemon = True
        self.watch.start()

    def late(self):
        print(f"{self.what}: not done after {LIMIT} s", flush=True)
        os._exit(2)

    def __exit__(self, *error):
        self.watch.cancel()
        print(f"{self.what}: {time.monotonic() - self.started:.1f} s", flush=True)


KS, D_SAE, K = (1, 2, 5, 16), 1024, 8
# What it imports for other purposes is not needed here.
for name in ("xgboost", "sae_lens", "transformer_lens", "tqdm"):
    sys.modules.setdefault(name, types.ModuleType(name))
sys.modules["sae_probes"] = types.ModuleType("sae_probes")
sys.modules["sae_probes"].__path__ = [str(package / "sae_probes")]
training = importlib.import_module("sae_probes.utils_training")


def cut(file, begin, end, names):
    """Some functions of a module whose imports are not there."""
    source = (package / "sae_probes" / file).read_text()
    exec(source[source.index(begin) : source.index(end)], names)
    return names


names = cut("run_sae_evals.py", "def get_sorted_indices", "def run_sae_eval(", {"torch": torch, "Callable": Callable})
names = cut("utils_data.py", "def get_train_test_indices", "def get_xy_traintest_specify", names | {"np": np})

table = pd.read_csv(package / f"sae_probes/data/cleaned_data/{task}.csv.zst")
if len(table) > most:
    # As many of each class: the package draws without replacement from either.
    table = table.groupby("target").sample(n=most // table["target"].nunique(), random_state=0).sort_index()
texts, y = table["prompt"].tolist(), pd.factorize(table["target"], sort=True)[0]
tokenizer = AutoTokenizer.from_pretrained(model_dir)
model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).eval()
d_model = model.config.hidden_size

torch.manual_seed(0)
directions = torch.nn.functional.normalize(torch.randn(D_SAE, d_model), dim=1)
weights = {"W_enc": directions.T.contiguous(), "W_dec": directions, "b_enc": torch.zeros(D_SAE), "b_dec": torch.zeros(d_model)}
latents = []
with part(f"{len(texts)} texts through the model"), torch.no_grad():
    for text in texts:
        ids = tokenizer(text)["input_ids"][-1024:]
        x = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[layer + 1][0, -1]
        top = (x @ weights["W_enc"]).topk(K)
        latents.append(torch.zeros(D_SAE).scatter(0, top.indices, top.values.relu()))
latents = torch.stack(latents)

size = len(texts)
train, test = names["get_train_test_indices"](y, min(size - 100, 1024), size - min(size - 100, 1024) - 1, 0.5, 42)
order = names["get_sorted_indices"](latents[train], torch.tensor(y[train]), names["mean_act_normalization"])
theirs = {}
for k in KS:
    columns = order[:k]
    with part(f"the package's probe of {k} latents"):
        found = training.find_best_reg(
            X_train=latents[train][:, columns].numpy(), y_train=y[train], X_test=latents[test][:, columns].numpy(),
            y_test=y[test], penalty="l2", seed=42,
        )
    theirs[k] = found.metrics

with tempfile.TemporaryDirectory() as dir:
    save_file(weights, f"{dir}/sae_weights.safetensors")
    cfg = {
        "architecture": "topk", "k": K, "d_in": d_model, "d_sae": D_SAE, "dtype": "float32", "device": "cpu",
        "apply_b_dec_to_input": False, "normalize_activations": "none", "reshape_activations": "none",
        "rescale_acts_by_decoder_norm": False,
        "metadata": {"hook_name": f"blocks.{layer}.hook_resid_post", "sae_lens_version": "6.54.12"},
    }
    Path(f"{dir}/cfg.json").write_text(json.dumps(cfg))
    command = [assay, "probe", "--model", model_dir, "--sae", dir, "--tasks", "sae-probes", "--task", task, "--protocol", "sae-probes"]
    table.to_csv(f"{dir}/{task}.csv.zst", index=False)
    command += ["--tasks-dir", dir, "--k", ",".join(map(str, KS)), "--orders", "0", "--json"]
    command += ["--device", "cpu"]
    with part("assay probe"):
        ours = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT).stdout)

failed = False
print(f"{task}, {len(train)} texts to fit on and {len(test)} to test by the package")
for row in ours["rows"]:
    if row["kind"] != "sae":
        continue
    for name, value in (("accuracy", theirs[row["k"]].test_acc), ("auroc", theirs[row["k"]].test_auc)):
        own = row["scores"][name]
        (low, high), error = own["interval_95"], np.sqrt(max(value * (1 - value), 0.01) / len(test))
        agree = low - 2 * error <= value <= high + 2 * error
        failed |= not agree
        print(f"k {row['k']:3} {name:9} package {value:.3f}, assay {own['value']:.3f} [{low:.3f}, {high:.3f}] {'' if agree else 'DIFFERENT'}")
sys.exit(failed)
