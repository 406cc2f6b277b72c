#!/usr/bin/env python3
"""Times one training step of each class of SAE in SAELens and in dictionary_learning.

    python time_sae_classes.py --json sae_classes.jsonl

Rows (one per peer, class and shape):
  saelens              topk, batchtopk, matryoshka (five widths), jumprelu, gated, standard in SAELens' own SAETrainer.step: tf32, bf16
  dictionary_learning  batchtopk, matryoshka, jumprelu, gated: its trainers' own `update`, in tf32
Both decode with dense products, so that L0 hardly matters to them. See README.md beside this file for what is and isn't comparable.
"""

import argparse
import sys
import types

from time_sae_step import batches_of, saelens_steps, shapes, timed_steps  # first: it keeps wandb off

import torch

from peer_bench import Rows, add_clock, allocated_mib, check_known, float32_matmul, ints, names, parse, synchronise, versions

CLASSES = ("topk", "batchtopk", "matryoshka", "jumprelu", "gated", "standard")


def widths(d_sae):
    return [d_sae // part for part in (16, 8, 4, 2, 1)]


def saelens_sae(name, d_model, d_sae, k, device):
    import sae_lens as lens

    both = {"d_in": d_model, "d_sae": d_sae, "device": device}
    if name == "topk":
        return lens.TopKTrainingSAE(lens.TopKTrainingSAEConfig(k=k, **both))
    if name == "batchtopk":
        return lens.BatchTopKTrainingSAE(lens.BatchTopKTrainingSAEConfig(k=k, **both))
    if name == "matryoshka":
        config = lens.MatryoshkaBatchTopKTrainingSAEConfig(k=k, matryoshka_widths=widths(d_sae), **both)
        return lens.MatryoshkaBatchTopKTrainingSAE(config)
    if name == "jumprelu":
        return lens.JumpReLUTrainingSAE(lens.JumpReLUTrainingSAEConfig(**both))
    if name == "gated":
        return lens.GatedTrainingSAE(lens.GatedTrainingSAEConfig(**both))
    return lens.StandardTrainingSAE(lens.StandardTrainingSAEConfig(**both))


def saelens_step(args, name, d_model, d_sae, k, precision):
    return saelens_steps(args, d_model, precision, lambda: saelens_sae(name, d_model, d_sae, k, args.device))


def without_nnsight():
    """dictionary_learning imports nnsight for its activation buffers, which are not used here: without it, a name stands in its place."""
    try:
        import nnsight  # noqa: F401
    except ModuleNotFoundError:
        nnsight = types.ModuleType("nnsight")
        nnsight.LanguageModel = nnsight.NNsight = object
        sys.modules["nnsight"] = nnsight


def dictionary_learning_step(args, name, d_model, d_sae, k):
    without_nnsight()
    from dictionary_learning.trainers import batch_top_k, gdm, jumprelu, matryoshka_batch_top_k

    # Its training script leaves torch's default, float32 products; TF32 flatters it.
    float32_matmul("tf32")
    torch.manual_seed(0)
    xs = batches_of(args, d_model)
    held = allocated_mib(args.device)
    both = {
        "steps": 10**6,
        "activation_dim": d_model,
        "dict_size": d_sae,
        "layer": 0,
        "lm_name": "none",
        "device": args.device,
        "seed": 0,
    }
    if name == "batchtopk":
        trainer = batch_top_k.BatchTopKTrainer(k=k, **both)
    elif name == "matryoshka":
        ends = widths(d_sae)
        fractions = [(end - start) / d_sae for start, end in zip([0, *ends], ends)]
        trainer = matryoshka_batch_top_k.MatryoshkaBatchTopKTrainer(k=k, group_fractions=fractions, **both)
    elif name == "jumprelu":
        trainer = jumprelu.JumpReluTrainer(target_l0=float(k), **both)
    else:
        trainer = gdm.GatedSAETrainer(**both)
    loss = torch.zeros(())

    def train(i):
        trainer.update(i, xs[i % len(xs)])
        return loss  # its own loss is read back within `update` where it is

    return timed_steps(args, train, held)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default=None, help="d_model x d_sae [512x16384,1024x32768]")
    parser.add_argument("--k", default="32")
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--classes", default=",".join(CLASSES))
    parser.add_argument("--peers", default="saelens,dictionary_learning")
    parser.add_argument("--precision", default="tf32,bf16", help="of SAELens")
    add_clock(parser, "steps", steps=30, warmup=10)
    args = parse(parser)
    args.real = None
    cpu = args.device == "cpu"
    wanted = names(args.classes)
    check_known(parser, wanted, CLASSES)
    check_known(parser, names(args.peers), ["saelens", "dictionary_learning"])
    rows = Rows(args.json, args.device)
    for d_model, d_sae in shapes(args.shapes or ("32x256" if cpu else "512x16384,1024x32768")):
        for k in ints(args.k):
            for name in wanted:
                row = {"work": "sae_step", "class": name, "d_model": d_model, "d_sae": d_sae, "k": k, "batch": args.batch}
                if "saelens" in names(args.peers):
                    for precision in ["fp32"] if cpu else names(args.precision):
                        of = {"peer": "saelens", **row, "precision": precision, "versions": versions("sae-lens")}
                        rows.add(of, lambda: saelens_step(args, name, d_model, d_sae, k, precision))
                if "dictionary_learning" in names(args.peers) and name in CLASSES[1:5]:
                    precision = "fp32" if cpu else "tf32"
                    of = {"peer": "dictionary_learning", **row, "precision": precision, "versions": versions("dictionary-learning")}
                    rows.add(of, lambda: dictionary_learning_step(args, name, d_model, d_sae, k))
    synchronise(args.device)
    rows.close()


if __name__ == "__main__":
    main()
