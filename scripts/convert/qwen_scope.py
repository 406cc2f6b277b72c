#!/usr/bin/env python3
"""Qwen Scope: `layer7.sae.pt` of a repository like Qwen/SAE-Res-Qwen3-1.7B-Base-W32K-L0_50 to SAELens' format.

    python scripts/convert/qwen_scope.py layer7.sae.pt DIRECTORY [--repo Qwen/SAE-Res-Qwen3-1.7B-Base-W32K-L0_50]

The file has the weights alone. k, the number of latents and the model are in the repository's name, which is found in the path (a clone,
or the hub's cache) or given; the layer is in the file's name. Needs torch and safetensors; works offline.
"""

import argparse
import re

from common import fail, find_in_path, load, save, take

REPOSITORY = r"SAE-Res-(.+)-W(\d+)K-L0_(\d+)"


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("source")
    ap.add_argument("target")
    ap.add_argument("--repo", help="the repository's name, if the path doesn't say it")
    args = ap.parse_args()
    named = re.search(REPOSITORY, args.repo) if args.repo else find_in_path(REPOSITORY, args.source)
    if named is None:
        fail(f"no part of {args.source} is a repository's name like SAE-Res-Qwen3-1.7B-Base-W32K-L0_50; give --repo")
    layer = re.search(r"layer(\d+)\.sae\.pt$", args.source)
    if layer is None:
        fail(f"{args.source}: a name like layer7.sae.pt says the layer")
    model, width, k = named[1], int(named[2]) * 1024, int(named[3])
    state = take(load(args.source), args.source, W_enc="W_enc", W_dec="W_dec", b_enc="b_enc", b_dec="b_dec")
    if len(state["W_enc"]) != width:
        fail(f"{args.source} has {len(state['W_enc'])} latents, the repository's name says {width}")
    state["W_enc"], state["W_dec"] = state["W_enc"].T, state["W_dec"].T
    cfg = {"architecture": "topk", "k": k, "rescale_acts_by_decoder_norm": False, "apply_b_dec_to_input": False}
    save(args.target, cfg, {"model_name": f"Qwen/{model}", "hook_name": f"blocks.{layer[1]}.hook_resid_post"}, state)


if __name__ == "__main__":
    main()
