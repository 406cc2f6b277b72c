#!/usr/bin/env python3
"""Golden traces of transcoders in training, by sparsify's own modules (eai-sparsify 1.3.3).

    python make_golden_transcoders.py OUT

sparsify's SparseCoder computes the prediction and its loss (FVU), autograd the gradients. Its loss of dead latents is none of the traces',
since it takes them after the ReLU. Clipping and Adam are those of the traces that SAELens makes (tests/golden/README.md). `config.json` holds assay's settings; `sae/` is what sparsify
saves, and `encode.safetensors` what it predicts of `x`. Nothing of assay is used.
"""

import json
import os
import sys
from pathlib import Path

os.environ["SPARSIFY_DISABLE_TRITON"] = "1"

import torch
from safetensors.torch import save_file
from sparsify import SparseCoder
from sparsify.config import SparseCoderConfig

CASES = {"transcoder-topk": False, "transcoder-topk-skip": True}
D, N, K, BATCH, STEPS, LR, CLIP, DEAD_AFTER = 20, 80, 6, 48, 14, 3e-3, 1.0, 150
NAMES = {"W_enc": "encoder.weight", "b_enc": "encoder.bias", "W_dec": "W_dec", "b_dec": "b_dec", "W_skip": "W_skip"}


def main():
    out = Path(sys.argv[1])
    torch.set_num_threads(1)
    for at, (name, skip) in enumerate(CASES.items()):
        torch.manual_seed(at)
        coder = SparseCoder(D, SparseCoderConfig(num_latents=N, k=K, transcode=True, skip_connection=skip, normalize_decoder=False))
        with torch.no_grad():
            coder.encoder.weight.copy_(0.25 * torch.randn(N, D))
            coder.encoder.bias.copy_(0.02 * torch.randn(N))
            # Some never fire, so that there are dead ones to count.
            coder.encoder.bias[:15] -= 3.0
            coder.W_dec.copy_(0.25 * torch.randn(N, D))
            coder.b_dec.copy_(0.1 * torch.randn(D))
        params = dict(coder.named_parameters())
        named = {ours: params[theirs] for ours, theirs in NAMES.items() if theirs in params}
        told = lambda group: {f"{group}.{key}": (value.T if key == "W_enc" else value).detach().clone().contiguous() for key, value in named.items()}
        tensors = told("init")
        adam = torch.optim.Adam(coder.parameters(), lr=LR, betas=(0.9, 0.999), eps=1e-8)
        # A small MLP, whose input and output they are.
        first, second = torch.randn(D, 3 * D) / D**0.5, torch.randn(3 * D, D) / D**0.5
        batches = torch.randn(STEPS, BATCH, D)
        targets = torch.relu(batches @ first) @ second
        since, seen = torch.zeros(N), {}
        for x, y in zip(batches, targets):
            dead = since > DEAD_AFTER
            found = coder(x, y)
            fires = torch.zeros(len(x), N).scatter_(1, found.latent_indices, found.latent_acts.detach()) > 0
            for key, value in {
                "n_dead": dead.sum(), "loss.mse_loss": found.fvu, "total": found.fvu, "l0": fires.float().sum(1).mean(),
            }.items():
                seen.setdefault(key, []).append(value.detach().clone())
            adam.zero_grad()
            found.fvu.backward()
            torch.nn.utils.clip_grad_norm_(coder.parameters(), CLIP)
            adam.step()
            since = torch.where(fires.any(0), torch.zeros(N), since + BATCH)
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        tensors |= {"batches": batches, "targets": targets} | {key: torch.stack(values) for key, values in seen.items()} | told("final")
        save_file(tensors, folder / "trace.safetensors")
        coder.save_to_disk(folder / "sae")
        with torch.no_grad():
            save_file({"x": batches[0].clone(), "recon": coder(batches[0]).sae_out}, folder / "encode.safetensors")
        config = {
            "d_model": D, "d_sae": N, "k": K, "batch_size": BATCH, "steps": 1000,
            "lr": LR, "warmup_steps": 0, "decay_steps": 0, "adam_beta1": 0.9, "adam_beta2": 0.999, "adam_eps": 1e-8, "clip_norm": CLIP,
            "loss": "fvu", "aux_coefficient": 0.0, "dead_after": DEAD_AFTER, "decoder_norm": "free",
            "decoder_init_norm": 0.1, "rescale_acts_by_decoder_norm": False, "apply_b_dec_to_input": False,
            "decoder_bias": "zero", "input_scaling": "none", "task": "skip_transcoder" if skip else "transcoder",
        }
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        print(name, "dead", [int(n) for n in seen["n_dead"]], "fvu", f"{seen['loss.mse_loss'][-1]:.3f}")


if __name__ == "__main__":
    main()
