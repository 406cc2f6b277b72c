#!/usr/bin/env python3
"""What SAEBench's core evaluation reports beside our metrics, by its formulas in torch and float64.

    python make_saebench.py tests/golden

Reads recon-metrics/inputs.safetensors and the SAE formats/saelens-gated-layer-norm; writes saebench/expected.json.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

golden = Path(sys.argv[1])
t = {name: tensor.double() for name, tensor in load_file(golden / "recon-metrics/inputs.safetensors").items()}
x, x_hat, z = t["activations"].flatten(0, 1), t["reconstructions"].flatten(0, 1), t["latents"]

residual = (x - x_hat).pow(2).sum(-1)
expected = {
    "l2_norm_in": x.norm(dim=-1).mean(),
    "l2_norm_out": x_hat.norm(dim=-1).mean(),
    "explained_variance_legacy": (1 - residual / (x - x.mean(0)).pow(2).sum(-1)).mean(),
    "l1": z.flatten(0, 1).abs().sum(-1).mean(),
}

active = (z != 0).double()
fires, prompts = active.sum((0, 1)), (active.sum(1) > 0).sum(0)
density = fires / (z.shape[0] * z.shape[1])
expected["consistent_activation_heuristic"] = fires / prompts
for name, rate in [("over_5_percent", 0.05), ("over_6_percent", 0.06)]:
    expected[f"freq_{name}"] = (density > rate).double().mean()
    expected[f"normalized_freq_{name}"] = density[density > rate].sum() / density.sum()

w = {name: tensor.double() for name, tensor in load_file(golden / "formats/saelens-gated-layer-norm/sae/sae_weights.safetensors").items()}


def max_cosines(columns):
    unit = torch.nn.functional.normalize(columns, dim=0)
    cosines = unit.T @ unit
    cosines.fill_diagonal_(-float("inf"))
    return cosines.max(1).values


expected["encoder_bias"] = w["b_mag"]
expected["encoder_norm"] = w["W_enc"].norm(dim=0)
expected["encoder_decoder_cosine_sim"] = torch.nn.functional.cosine_similarity(w["W_enc"].T, w["W_dec"])
expected["max_encoder_cosine_sim"] = max_cosines(w["W_enc"])
expected["max_decoder_cosine_sim"] = max_cosines(w["W_dec"].T)

out = golden / "saebench"
out.mkdir(exist_ok=True)
rounded = lambda v: [float(f"{e:.10g}") for e in v.tolist()] if v.ndim else float(f"{v.item():.12g}")
(out / "expected.json").write_text(json.dumps({name: rounded(value) for name, value in expected.items()}) + "\n")
