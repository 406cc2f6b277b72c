#!/usr/bin/env python3
"""Goodfire's SAEs of Llama, and qresearch's of DeepSeek-R1-Distill-Llama-8B, to SAELens' format.

    python scripts/convert/goodfire.py Llama-3.1-8B-Instruct-SAE-l19.pth DIRECTORY
    python scripts/convert/goodfire.py DeepSeek-R1-Distill-Llama-8B-SAE-l19.pt DIRECTORY

The file has two linear layers; the model and the layer are in its name, or given by --model and --layer. The latents are ReLUs, and b_dec
is not subtracted from the input. Needs torch and safetensors; works offline.
"""

import argparse
import re
from pathlib import Path

from common import fail, load, save, take

# By how the files are called.
MODELS = {
    "Llama-3.3-70B-Instruct": "meta-llama/Llama-3.3-70B-Instruct",
    "Llama-3.1-8B-Instruct": "meta-llama/Llama-3.1-8B-Instruct",
    "DeepSeek-R1-Distill-Llama-8B": "deepseek-ai/DeepSeek-R1-Distill-Llama-8B",
}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("source")
    ap.add_argument("target")
    ap.add_argument("--model", help="the model's name on the hub, if the file's name doesn't say it")
    ap.add_argument("--layer", type=int, help="the layer whose output it reads, if the file's name doesn't say it")
    args = ap.parse_args()
    name = Path(args.source).name
    model = args.model or next((model for part, model in MODELS.items() if name.lower().startswith(part.lower())), None)
    if model is None:
        fail(f"{name} names no model that is known ({', '.join(MODELS)}); give --model")
    layer = re.search(r"-l(\d+)\.", name)
    layer = args.layer if args.layer is not None else layer and layer[1]
    if layer is None:
        fail(f"{name} names no layer, as in -l19.pth; give --layer")
    state = load(args.source)
    form = "encoder_linear", "decoder_linear"
    encoder, decoder = form if f"{form[0]}.weight" in state else ("encoder", "decoder")
    tensors = take(
        state,
        args.source,
        W_enc=f"{encoder}.weight",
        b_enc=f"{encoder}.bias",
        W_dec=f"{decoder}.weight",
        b_dec=f"{decoder}.bias",
    )
    tensors["W_enc"], tensors["W_dec"] = tensors["W_enc"].T, tensors["W_dec"].T
    cfg = {"architecture": "standard", "apply_b_dec_to_input": False}
    save(args.target, cfg, {"model_name": model, "hook_name": f"blocks.{layer}.hook_resid_post"}, tensors)


if __name__ == "__main__":
    main()
