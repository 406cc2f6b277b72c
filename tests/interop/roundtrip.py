#!/usr/bin/env python3
"""Does another tool reconstruct the same activations from an SAE that assay wrote?

    python roundtrip.py TOOL SAE_DIR RECON.safetensors

TOOL is saelens, sparsify or dictionary-learning; SAE_DIR is an SAE that assay wrote in its format, by a sweep or by
`assay convert`. RECON.safetensors holds float32 tensors `x` [N, d_in] and `recon` [N, d_out], from

    assay eval --model DIR --sae SAE_DIR --tokens FILE --save-reconstructions RECON.safetensors

or from the tool that the SAE was converted from (tests/golden/formats/*/encode.safetensors).

The tool itself loads the SAE and reconstructs x on the CPU in float32. Prints the relative error
||recon_tool - recon|| / ||recon_tool|| over all tokens, and the number of tokens whose own relative error exceeds 1e-3
(a latent chosen differently shows there first). Exit status: 0 if the relative error is at most 1e-5, 1 if it is
larger, 2 if the files don't fit together.
"""

import argparse
import json
import os
import sys
import types
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import load_file

TOLERANCE = 1e-5
TOKEN_TOLERANCE = 1e-3
CHUNK = 4096


def saelens(sae_dir):
    """Name and version, d_in, and the function from x to (x̂, latents)."""
    from sae_lens import SAE

    sae = SAE.load_from_disk(str(sae_dir), device="cpu").float().eval()
    # The files have all heads one after another already.
    sae.turn_off_forward_pass_hook_z_reshaping()

    def reconstruct(x):
        z = sae.encode(x)
        # What a skip transcoder's map adds is none of decode's business.
        return (sae(x) if hasattr(sae, "W_skip") else sae.decode(z)), z

    return f"sae_lens {version('sae-lens')}: {type(sae).__name__}", sae.cfg.d_in, reconstruct


def sparsify(sae_dir):
    os.environ["SPARSIFY_DISABLE_TRITON"] = "1"
    from sparsify import SparseCoder

    sae = SparseCoder.load_from_disk(sae_dir, device="cpu")

    def reconstruct(x):
        acts, indices, _ = sae.encode(x)
        recon = sae.decode(acts, indices)
        if sae.W_skip is not None:
            recon = recon + x @ sae.W_skip.mT
        return recon, torch.zeros(len(x), sae.num_latents).scatter_(1, indices, acts)

    return f"sparsify {version('eai-sparsify')}: {sae.cfg.activation}", sae.d_in, reconstruct


def dictionary_learning(sae_dir):
    # Its dictionaries need torch and einops only; what else its modules import may be absent.
    for name in ("nnsight", "wandb", "zstandard", "datasets", "dictionary_learning.buffer"):
        stub = sys.modules.setdefault(name, types.ModuleType(name))
        stub.LanguageModel = stub.load_dataset = stub.ActivationBuffer = None
    from dictionary_learning import dictionary
    from dictionary_learning.trainers.top_k import AutoEncoderTopK

    trainer = json.loads((sae_dir / "config.json").read_text())["trainer"]
    name, sizes = trainer["dict_class"], (trainer["activation_dim"], trainer["dict_size"])
    sae = AutoEncoderTopK(*sizes, trainer["k"]) if name == "AutoEncoderTopK" else getattr(dictionary, name)(*sizes)
    sae.load_state_dict(load_file(sae_dir / "ae.safetensors"))

    def reconstruct(x):
        z = sae.encode(x)
        return sae.decode(z), z

    return f"dictionary_learning {version('dictionary-learning')}: {name}", sizes[0], reconstruct


TOOLS = {"saelens": saelens, "sparsify": sparsify, "dictionary-learning": dictionary_learning}


def relative(theirs, ours):
    """||theirs - ours|| / ||theirs||, in float64: the comparison itself must add no error."""
    theirs, ours = theirs.double(), ours.double()
    return ((theirs - ours).norm() / theirs.norm()).item()


def compare(tool, sae_dir, recon_file, latents=False) -> int:
    """What `main` does, and its exit status. With `latents`, also compares those of the file, [N, d_sae], where they are in the tool's units."""
    tensors = load_file(recon_file)
    missing = {"x", "recon"} - tensors.keys()
    if missing:
        print(f"error: {recon_file}: no tensor {', '.join(sorted(missing))}; it holds {', '.join(sorted(tensors))}", file=sys.stderr)
        return 2
    x, ours = tensors["x"], tensors["recon"]
    if x.dtype != torch.float32 or ours.dtype != torch.float32 or x.ndim != 2 or ours.ndim != 2 or len(x) != len(ours) or len(x) == 0:
        print(
            f"error: {recon_file}: want float32 x [N, d_in] and recon [N, d_out], N > 0; "
            f"got x {x.dtype} {list(x.shape)}, recon {ours.dtype} {list(ours.shape)}",
            file=sys.stderr,
        )
        return 2

    with torch.no_grad():
        what, d_in, reconstruct = TOOLS[tool](sae_dir)
        if d_in != x.shape[1]:
            print(f"error: the SAE has d_in {d_in}, x has {x.shape[1]} columns", file=sys.stderr)
            return 2
        parts = [reconstruct(part) for part in x.split(CHUNK)]
    theirs = torch.cat([recon for recon, _ in parts])
    z = torch.cat([z for _, z in parts])
    l0 = (z != 0).sum(-1).double().mean().item()

    error = relative(theirs, ours)
    per_token = (theirs.double() - ours.double()).norm(dim=-1) / theirs.double().norm(dim=-1).clamp_min(1e-30)
    # "not <=" so that NaN counts as different
    differing = int((~(per_token <= TOKEN_TOLERANCE)).sum())

    print(f"{what}, torch {torch.__version__}, d_in {d_in}, {len(x)} tokens, mean L0 {l0:.3f}")
    print(f"relative error ||recon_tool - recon|| / ||recon_tool||: {error:.3e} (at most {TOLERANCE:.0e})")
    print(f"tokens that differ by more than {TOKEN_TOLERANCE:.0e} relative: {differing} of {len(x)} (largest {per_token.max().item():.3e})")
    ok = error <= TOLERANCE
    if latents:
        error = relative(z, tensors["latents"])
        print(f"relative error of the latents: {error:.3e} (at most {TOLERANCE:.0e})")
        ok = ok and error <= TOLERANCE
    print("ok" if ok else "FAILED")
    return 0 if ok else 1


def main() -> int:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("tool", choices=TOOLS, metavar="TOOL")
    ap.add_argument("sae_dir", type=Path, metavar="SAE_DIR")
    ap.add_argument("recon", type=Path, metavar="RECON.safetensors")
    args = ap.parse_args()
    return compare(args.tool, args.sae_dir, args.recon)


if __name__ == "__main__":
    sys.exit(main())
