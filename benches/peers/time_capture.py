#!/usr/bin/env python3
"""Times transformers' decoders up to the output of the last layer, at the shapes of `shapes.py`.

    python time_capture.py --json capture.jsonl

The model is the one without an unembedding (`AutoModel`) with random weights and SDPA attention; its final norm is replaced by
`nn.Identity`, so that `last_hidden_state` is the residual stream after the last layer: what a hook on that layer would see, without
the hook. Under `torch.no_grad`, no key-value cache, no padding mask (SDPA then gets is_causal=True and may take its flash kernel;
with a sliding window transformers makes a mask), eager mode.

FLOPs are counted for the weight products alone (`shapes.weight_flops`), 2 a weight: 0.31 TFLOP at the shape of Pythia-70M and
32 x 256 tokens, 4.95 TFLOP at that of Pythia-410M, 15.9 TFLOP at that of Llama-3.2-1B. Attention itself would add 4*H*D*(t+1) FLOPs for
the token at position t (4 % and 2 % of Pythia's at 256 tokens); it is left out, as are norms, activations and the rotary embedding.
"""

import argparse

import torch

from peer_bench import Rows, add_clock, check_known, float32_matmul, ints, measure, names, parse, peak_mib, versions
from shapes import SHAPES, config_of, weight_flops

TIMED = "pythia-70m,pythia-410m,smollm2-135m,gemma-3-270m,llama-3.2-1b"


def build(shape, precision, device, context):
    from transformers import AutoModel

    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModel.from_config(config_of(shape, context))
    if shape["family"] == "gpt_neox":
        model.final_layer_norm = torch.nn.Identity()
    else:
        model.norm = torch.nn.Identity()
    return model.to(dtype=torch.bfloat16 if precision == "bf16" else torch.float32).eval()


def capture(args, model, shape, precision, batch):
    float32_matmul(precision)
    ids = torch.randint(shape["vocab"], (batch, args.context), device=args.device)

    def forward():
        with torch.no_grad():
            return model(input_ids=ids, use_cache=False).last_hidden_state

    result = measure(forward, args.device, args.warmup, args.steps, args.repeats)
    tokens = batch * args.context
    result["tokens_per_s"] = round(tokens / result["ms_median"] * 1e3)
    result["tflops"] = round(weight_flops(shape, tokens) / result["ms_median"] / 1e9, 3)
    result["peak_mib"] = peak_mib(args.device)  # weights included
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", help=f"any of {','.join(SHAPES)} (default {TIMED}; on the CPU the tiny ones)")
    parser.add_argument("--batches", help="contexts a pass (default 32,64,128,256; on the CPU 2,4)")
    parser.add_argument("--context", type=int, help="tokens a context (default 256; on the CPU 32)")
    parser.add_argument("--precision", default="bf16,tf32,fp32", help="any of bf16,tf32,fp32 (default all; no tf32 on the CPU)")
    add_clock(parser, "passes", steps=20, warmup=5)
    args = parse(parser)
    cpu = args.device == "cpu"
    args.context = args.context or (32 if cpu else 256)
    models = names(args.models or ("tiny,tiny-llama,tiny-gemma" if cpu else TIMED))
    batches = ints(args.batches or ("2,4" if cpu else "32,64,128,256"))
    precisions = [p for p in names(args.precision) if not (cpu and p == "tf32")]
    check_known(parser, models, SHAPES)
    check_known(parser, precisions, ["bf16", "tf32", "fp32"])
    rows = Rows(args.json, args.device)
    for name in models:
        shape = SHAPES[name]
        for precision in precisions:
            model = None

            def run(batch):
                nonlocal model
                if model is None:
                    model = build(shape, precision, args.device, args.context)
                return capture(args, model, shape, precision, batch)

            done = [
                rows.add(
                    {
                        "peer": "transformers", "work": "capture", "model": name, "layers": shape["layers"], "d_model": shape["d_model"],
                        "batch": batch, "context": args.context, "precision": precision, "data": "random",
                        "versions": versions("transformers"),
                    },  # fmt: skip
                    lambda: run(batch),
                )
                for batch in batches
            ]
            timed = [row for row in done if "tokens_per_s" in row]
            if timed:
                best = max(timed, key=lambda row: row["tokens_per_s"])
                print(f"# best batch, {name} {precision}: {best['batch']} ({best['tokens_per_s']:,} tokens/s)", flush=True)
    rows.close()


if __name__ == "__main__":
    main()
