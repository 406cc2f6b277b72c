#!/usr/bin/env python3
"""Golden traces of hierarchical TopK (HierarchicalTopK; Balagansky et al. 2025, arXiv:2505.24473), whose training no package on PyPI has.

    python make_golden_hierarchical.py OUT

The step is written here in torch, from the paper's definition of the loss, with autograd for every gradient: the mean over the grid of the
reconstruction losses of the k largest latents. Dead latents, clipping and Adam are those of the traces that SAELens makes
(tests/golden/README.md). `config.json` holds assay's settings. Nothing of assay is used.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

CASES = {
    "hierarchical": {"ks": [2, 5, 12], "rescale": True, "dead_after": 120, "aux": 0.5},
    "hierarchical-one-by-one": {"ks": [1, 2, 3, 4, 5, 6], "rescale": False, "dead_after": 80, "aux": 1.0},
}
D, N, BATCH, STEPS, LR, CLIP = 24, 96, 40, 14, 3e-3, 1.0


def mask_of_largest(scores, k, allowed):
    """1 at the k largest allowed entries of each row; ties, of which random numbers have none, may go anywhere."""
    scores = scores.masked_fill(~allowed, -torch.inf)
    k = min(k, int(allowed[0].sum()))
    return torch.zeros_like(scores).scatter(1, scores.topk(k, dim=1).indices, 1.0)


def main():
    out = Path(sys.argv[1])
    torch.set_num_threads(1)
    for at, (name, case) in enumerate(CASES.items()):
        ks, share = case["ks"], 1 / len(case["ks"])
        torch.manual_seed(at)
        w_dec = torch.randn(N, D) * 0.2 * (0.5 + torch.rand(N, 1))
        start = {"W_enc": w_dec.T.clone() + 0.02 * torch.randn(D, N), "W_dec": w_dec, "b_enc": 0.02 * torch.randn(N), "b_dec": 0.05 * torch.randn(D)}
        # Some never fire at first, so that there are dead ones.
        start["b_enc"][:20] -= 3.0
        p = {key: value.clone().requires_grad_() for key, value in start.items()}
        adam = torch.optim.Adam(p.values(), lr=LR, betas=(0.9, 0.999), eps=1e-8)
        directions = torch.randn(60, D)
        batches = (torch.rand(STEPS, BATCH, 60) < 0.06).float() * torch.rand(STEPS, BATCH, 60) @ directions
        batches = (batches + 0.1 * torch.randn(STEPS, BATCH, D)).contiguous()
        since, seen = torch.zeros(N), {}
        for x in batches:
            pre = (x - p["b_dec"]) @ p["W_enc"] + p["b_enc"]
            norms = p["W_dec"].norm(dim=1)
            scores = (pre * norms if case["rescale"] else pre).detach()
            everything = torch.ones_like(scores, dtype=torch.bool)
            codes = [torch.relu(pre) * mask_of_largest(scores, k, everything) for k in ks]
            losses = [((z @ p["W_dec"] + p["b_dec"] - x) ** 2).sum(1).mean() for z in codes]
            dead = since > case["dead_after"]
            told = {"n_dead": dead.sum(), "l0": (codes[-1] > 0).float().sum(1).mean(), "loss.mse_loss": losses[-1]}
            told |= {f"loss.inner_mse_loss_{k}": loss * share for k, loss in zip(ks, losses[:-1])}
            aux = torch.zeros(())
            if dead.any():
                revived = (pre * mask_of_largest(scores, D // 2, dead.expand_as(scores))) @ p["W_dec"]
                error = (x - codes[-1] @ p["W_dec"] - p["b_dec"]).detach()
                aux = case["aux"] * min(int(dead.sum()) / (D // 2), 1.0) * ((revived - error) ** 2).sum(1).mean()
            told["loss.auxiliary_reconstruction_loss"] = aux
            told["total"] = sum(losses) * share + aux
            for key, value in told.items():
                seen.setdefault(key, []).append(value.detach().clone())
            adam.zero_grad()
            told["total"].backward()
            torch.nn.utils.clip_grad_norm_(p.values(), CLIP)
            adam.step()
            since = torch.where((codes[-1] > 0).any(0), torch.zeros(N), since + BATCH)
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"init.{key}": value for key, value in start.items()} | {"batches": batches}
        tensors |= {key: torch.stack(values) for key, values in seen.items()}
        tensors |= {f"final.{key}": value.detach() for key, value in p.items()}
        save_file({key: value.contiguous() for key, value in tensors.items()}, folder / "trace.safetensors")
        config = {
            "d_model": D, "d_sae": N, "architecture": "hierarchical", "k": ks[0], "ks": ks, "batch_size": BATCH, "steps": 1000,
            "lr": LR, "warmup_steps": 0, "decay_steps": 0, "adam_beta1": 0.9, "adam_beta2": 0.999, "adam_eps": 1e-8, "clip_norm": CLIP,
            "loss": "mse", "aux_coefficient": case["aux"], "dead_after": case["dead_after"], "decoder_norm": "free",
            "decoder_init_norm": 0.1, "rescale_acts_by_decoder_norm": case["rescale"], "apply_b_dec_to_input": True,
            "decoder_bias": "zero", "input_scaling": "none",
        }
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        print(name, "dead", [int(n) for n in seen["n_dead"]], "l0", f"{seen['l0'][-1]:.2f}")


if __name__ == "__main__":
    main()
