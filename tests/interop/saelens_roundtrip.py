#!/usr/bin/env python3
"""Does SAELens reconstruct the same activations from an SAE that assay wrote?

    python saelens_roundtrip.py SAE_DIR RECON.safetensors

SAE_DIR is an SAE directory in SAELens v6 format (cfg.json, sae_weights.safetensors) written by assay.
RECON.safetensors holds float32 tensors `x` [N, d_in] and `recon` [N, d_in], from

    assay eval --model DIR --sae SAE_DIR --tokens FILE --save-reconstructions RECON.safetensors

SAELens itself loads the SAE and reconstructs x on the CPU in float32. Prints the relative error
||recon_saelens - recon|| / ||recon_saelens|| over all tokens, and the number of tokens whose own relative error
exceeds 1e-3 (a latent chosen differently by TopK shows there first). Exit status: 0 if the relative error is at most
1e-5, 1 if it is larger, 2 if the files don't fit together.
"""

import argparse
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

TOLERANCE = 1e-5
TOKEN_TOLERANCE = 1e-3
CHUNK = 4096


def main() -> int:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("sae_dir", type=Path, metavar="SAE_DIR")
    ap.add_argument("recon", type=Path, metavar="RECON.safetensors")
    args = ap.parse_args()

    tensors = load_file(args.recon)
    missing = {"x", "recon"} - tensors.keys()
    if missing:
        print(f"error: {args.recon}: no tensor {', '.join(sorted(missing))}; it holds {', '.join(sorted(tensors))}", file=sys.stderr)
        return 2
    x, ours = tensors["x"], tensors["recon"]
    if x.dtype != torch.float32 or ours.dtype != torch.float32 or x.ndim != 2 or x.shape != ours.shape or len(x) == 0:
        print(
            f"error: {args.recon}: want float32 x and recon of one shape [N, d_in], N > 0; "
            f"got x {x.dtype} {list(x.shape)}, recon {ours.dtype} {list(ours.shape)}",
            file=sys.stderr,
        )
        return 2

    import sae_lens
    from sae_lens import SAE

    sae = SAE.load_from_disk(str(args.sae_dir), device="cpu").float().eval()
    if sae.cfg.d_in != x.shape[1]:
        print(f"error: the SAE has d_in {sae.cfg.d_in}, x has {x.shape[1]} columns", file=sys.stderr)
        return 2

    with torch.no_grad():
        latents, theirs = [], []
        for part in x.split(CHUNK):
            z = sae.encode(part)
            theirs.append(sae.decode(z))
            latents.append((z != 0).sum(-1))
    theirs, l0 = torch.cat(theirs), torch.cat(latents).double().mean().item()

    # Differences and sums in float64: the comparison itself must add no error.
    theirs, ours = theirs.double(), ours.double()
    diff = theirs - ours
    error = (diff.norm() / theirs.norm()).item()
    per_token = diff.norm(dim=-1) / theirs.norm(dim=-1).clamp_min(1e-30)
    # "not <=" so that NaN counts as different
    differing = int((~(per_token <= TOKEN_TOLERANCE)).sum())

    print(f"sae_lens {sae_lens.__version__}, torch {torch.__version__}: {type(sae).__name__} d_in {sae.cfg.d_in} d_sae {sae.cfg.d_sae}, {len(x)} tokens, mean L0 {l0:.3f}")
    print(f"relative error ||recon_saelens - recon|| / ||recon_saelens||: {error:.3e} (at most {TOLERANCE:.0e})")
    print(f"tokens that differ by more than {TOKEN_TOLERANCE:.0e} relative: {differing} of {len(x)} (largest {per_token.max().item():.3e})")
    ok = error <= TOLERANCE
    print("ok" if ok else "FAILED")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
