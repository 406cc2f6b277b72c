#!/usr/bin/env python3
"""Times one training step of a TopK SAE in SAELens and in sparsify, and the torch operations that bound both.

    python time_sae_step.py --json sae_step_random.jsonl
    python time_sae_step.py --activations acts.safetensors --json sae_step_real.jsonl

Rows (one per peer, shape and k):
  torch           encoder_matmul   [batch, d_model] x [d_model, d_sae] alone: bf16, tf32, fp32
  torch           topk             torch.topk(sorted=False) alone on [batch, d_sae]: bf16 and fp32 input
  sparsify        sae_step         SparseCoder, fused torch Adam, decoder norm, removal of the parallel gradient
  saelens         sae_step         TopKTrainingSAE in SAELens' own SAETrainer.step: tf32, bf16 autocast
  saelens-sparse  sae_step         the same with use_sparse_activations=True, in float32 without autocast, as SAELens advises
See README.md beside this file for what is and isn't comparable.
"""

import argparse
import os

os.environ.setdefault("WANDB_MODE", "disabled")

import torch

from peer_bench import (
    Rows, add_clock, allocated_mib, check_known, float32_matmul, ints, measure, names, parse, peak_mib, synchronise, versions,
)

MAX_BATCHES = 64  # real activations: at most this many batches are held on the device and taken in turn


def shapes(text):
    return [tuple(int(side) for side in part.lower().split("x")) for part in names(text)]


def load_activations(path):
    """Opens the file; returns [tokens, d_model] as a lazily read slice and its shape."""
    from safetensors import safe_open

    handle = safe_open(path, framework="pt", device="cpu")
    if "activations" not in handle.keys():
        raise SystemExit(f"{path}: no tensor named `activations` (found: {', '.join(handle.keys())})")
    piece = handle.get_slice("activations")
    tokens, d_model = piece.get_shape()
    return piece, tokens, d_model


def batches_of(args, d_model):
    if args.real is None:
        generator = torch.Generator().manual_seed(0)
        return [torch.randn(args.batch, d_model, generator=generator).to(args.device) for _ in range(4)]
    piece, tokens, _ = args.real
    count = min(tokens // args.batch, MAX_BATCHES)
    if count == 0:
        raise ValueError(f"{tokens} tokens are fewer than one batch of {args.batch}")
    whole = piece[: count * args.batch].to(torch.float32)
    return [whole[i * args.batch : (i + 1) * args.batch].to(args.device) for i in range(count)]


def timed_steps(args, train, held):
    """`train(i)` runs step i and returns its loss tensor."""
    state = {"i": 0}
    first = float(train(0).detach())

    def step():
        state["i"] += 1
        state["loss"] = train(state["i"])

    result = measure(step, args.device, args.warmup, args.steps, args.repeats)
    result["tokens_per_s"] = round(args.batch / result["ms_median"] * 1e3)
    result["loss_first"], result["loss_last"] = first, float(state["loss"].detach())
    result["peak_mib"] = peak_mib(args.device, held)
    result["data_mib"] = held
    return result


def saelens_steps(args, d_model, precision, make):
    """Steps of SAELens' own trainer with the SAE that `make` makes."""
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    float32_matmul(precision)
    torch.manual_seed(0)
    xs = batches_of(args, d_model)
    held = allocated_mib(args.device)
    sae = make()
    config = SAETrainerConfig(
        total_training_samples=10**9,
        train_batch_size_samples=args.batch,
        device=args.device,
        autocast=precision == "bf16",
        lr=3e-4,
        lr_end=3e-4,
    )
    trainer = SAETrainer(cfg=config, sae=sae, data_provider=iter(()))

    def train(i):
        # What SAETrainer.fit does each step with logging off, less the progress bar.
        output = trainer.step(xs[i % len(xs)])
        trainer.n_training_steps += 1
        return output.loss

    return timed_steps(args, train, held)


def saelens_step(args, d_model, d_sae, k, precision, sparse):
    from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig

    # With sparse activations the rescaling by decoder norms (on by default) has no backward pass in torch 2.11, so it is off there.
    options = {"use_sparse_activations": True, "rescale_acts_by_decoder_norm": False} if sparse else {}
    config = TopKTrainingSAEConfig(d_in=d_model, d_sae=d_sae, k=k, device=args.device, **options)
    return saelens_steps(args, d_model, precision, lambda: TopKTrainingSAE(config))


def sparsify_step(args, d_model, d_sae, k, precision):
    if args.device == "cpu":
        os.environ["SPARSIFY_DISABLE_TRITON"] = "1"  # its decoder is a Triton kernel; the CPU takes its embedding_bag path
    from sparsify import SparseCoder, SparseCoderConfig

    # sparsify's trainer sets "high" (TF32) for float32 products; SparseCoder.forward is itself wrapped in bf16 autocast on a
    # CUDA device (a decorator in its source), which is left as it is.
    torch.set_float32_matmul_precision("high")
    torch.manual_seed(0)
    xs = batches_of(args, d_model)
    held = allocated_mib(args.device)
    coder = SparseCoder(d_model, SparseCoderConfig(num_latents=d_sae, k=k), device=args.device, dtype=torch.float32)
    coder.b_dec.data = xs[0].mean(0)  # as its trainer does before the first step
    lr = 2e-4 / (d_sae / 2**14) ** 0.5  # its trainer's rule for Adam
    optimiser = torch.optim.Adam(coder.parameters(), lr=lr, fused=True)

    def train(i):
        coder.set_decoder_norm_to_unit_norm()
        output = coder(xs[i % len(xs)], dead_mask=None)  # dead_mask=None: its trainer's default (auxk_alpha = 0)
        output.fvu.backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        optimiser.step()
        optimiser.zero_grad()
        return output.fvu

    return timed_steps(args, train, held)


def encoder_matmul(args, d_model, d_sae, precision):
    float32_matmul(precision)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    x = torch.randn(args.batch, d_model, device=args.device).to(dtype)
    weight = torch.randn(d_model, d_sae, device=args.device).to(dtype)
    out = torch.empty(args.batch, d_sae, device=args.device, dtype=dtype)
    with torch.no_grad():
        result = measure(lambda: torch.matmul(x, weight, out=out), args.device, args.warmup, args.steps, args.repeats)
    # 2 FLOPs for each of batch * d_model * d_sae multiply-adds.
    result["tflops"] = round(2 * args.batch * d_model * d_sae / result["ms_median"] / 1e9, 3)
    result["peak_mib"] = peak_mib(args.device)
    return result


def topk(args, d_sae, k, precision):
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    x = torch.randn(args.batch, d_sae, device=args.device).to(dtype)
    with torch.no_grad():
        result = measure(lambda: torch.topk(x, k, dim=-1, sorted=False), args.device, args.warmup, args.steps, args.repeats)
    result["peak_mib"] = peak_mib(args.device)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", help="d_model x d_sae pairs (default 512x16384,1024x32768; on the CPU 32x256)")
    parser.add_argument("--k", help="default 8,32,256; on the CPU 4,8")
    parser.add_argument("--batch", type=int, help="tokens a step (default 4096; on the CPU 128)")
    parser.add_argument("--activations", help="safetensors file with `activations`, [tokens, d_model]; real data instead of random")
    parser.add_argument("--peers", default="torch,sparsify,saelens,saelens-sparse", help="which of torch,sparsify,saelens,saelens-sparse")
    parser.add_argument("--precision", default="tf32,bf16", help="of SAELens' rows: any of fp32,tf32,bf16 (default tf32,bf16)")
    add_clock(parser, "steps", steps=60, warmup=10)
    args = parse(parser)
    cpu = args.device == "cpu"
    args.batch = args.batch or (128 if cpu else 4096)
    wanted_k = ints(args.k or ("4,8" if cpu else "8,32,256"))
    wanted_shapes = shapes(args.shapes or ("32x256" if cpu else "512x16384,1024x32768"))
    peers = names(args.peers)
    precisions = names(args.precision)
    check_known(parser, peers, ["torch", "sparsify", "saelens", "saelens-sparse"])
    check_known(parser, precisions, ["fp32", "tf32", "bf16"])
    args.real = load_activations(args.activations) if args.activations else None
    data = "real" if args.real else "random"
    if args.real:
        print(f"# {args.activations}: {args.real[1]} tokens, d_model {args.real[2]}", flush=True)
    rows = Rows(args.json, args.device)
    # TF32 is a mode of the GPU: on the CPU it is plain float32, and the rows say so.
    on_device = lambda precision: "fp32" if cpu and precision == "tf32" else precision  # noqa: E731

    def row(peer, work, d_model, d_sae, k, precision, packages, source=data):
        return {
            "peer": peer, "work": work, "d_model": d_model, "d_sae": d_sae, "k": k, "batch": args.batch,
            "precision": on_device(precision), "data": source, "versions": versions(*packages),
        }  # fmt: skip

    for d_model, d_sae in wanted_shapes:
        if args.real and args.real[2] != d_model:
            print(f"# {d_model}x{d_sae} skipped: the activations have d_model {args.real[2]}", flush=True)
            continue
        if "torch" in peers:
            for precision in ("bf16", "fp32") if cpu else ("bf16", "tf32", "fp32"):
                rows.add(
                    row("torch", "encoder_matmul", d_model, d_sae, None, precision, (), "random"),
                    lambda: encoder_matmul(args, d_model, d_sae, precision),
                )
        for k in wanted_k:
            if "torch" in peers:
                for precision in ("bf16", "fp32"):
                    rows.add(row("torch", "topk", None, d_sae, k, precision, (), "random"), lambda: topk(args, d_sae, k, precision))
            if "sparsify" in peers:
                precision = "fp32" if cpu else ("bf16" if torch.cuda.is_bf16_supported() else "tf32")
                rows.add(
                    row("sparsify", "sae_step", d_model, d_sae, k, precision, ("eai-sparsify", "triton")),
                    lambda: sparsify_step(args, d_model, d_sae, k, precision),
                )
            if "saelens" in peers:
                for precision in dict.fromkeys(on_device(p) for p in precisions):
                    rows.add(
                        row("saelens", "sae_step", d_model, d_sae, k, precision, ("sae-lens",)),
                        lambda: saelens_step(args, d_model, d_sae, k, precision, sparse=False),
                    )
            if "saelens-sparse" in peers:
                for precision in dict.fromkeys(on_device(p) for p in precisions if p != "bf16"):
                    rows.add(
                        row("saelens-sparse", "sae_step", d_model, d_sae, k, precision, ("sae-lens",)),
                        lambda: saelens_step(args, d_model, d_sae, k, precision, sparse=True),
                    )
    synchronise(args.device)
    rows.close()


if __name__ == "__main__":
    main()
