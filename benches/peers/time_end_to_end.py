"""Times SAELens' own training runner from start to end: one TopK SAE on a model of Pythia-410M's shape with random weights, capture included.

    python time_end_to_end.py [--tokens 1998848] [--layer 12] [--d-sae 32768] [--k 32] [--device cuda] [--json FILE]

The other side is `assay --device cuda sweep one.toml` (`benches/grid/make_inputs.py`), whose time has more in it: it reads the model from disk,
evaluates the SAE by patching and surveys the geometry of all layers. Here the model is made in memory, and nothing is evaluated. bf16 autocast for
the SAE and for the model, 4,096 tokens a step, contexts of 256. `--device cpu` takes a tiny shape, to see that the script works.
"""

import argparse
import json
import time

import torch
from datasets import Dataset
from sae_lens import LanguageModelSAERunnerConfig, TopKTrainingSAEConfig
from sae_lens.config import LoggingConfig
from sae_lens.training.sae_trainer import SAETrainer
from transformer_lens import HookedTransformer, HookedTransformerConfig

try:
    from sae_lens import LanguageModelSAETrainingRunner as Runner
except ImportError:
    from sae_lens import SAETrainingRunner as Runner


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, default=1_998_848)
    parser.add_argument("--layer", type=int, default=12)
    parser.add_argument("--d-sae", type=int, default=32_768)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json")
    args = parser.parse_args()
    on_gpu = args.device == "cuda"
    n_layers, d_model, n_heads = (24, 1024, 16) if on_gpu else (3, 64, 4)
    layer, d_sae = (args.layer, args.d_sae) if on_gpu else (1, 256)
    torch.manual_seed(0)
    config = HookedTransformerConfig(
        n_layers=n_layers,
        d_model=d_model,
        n_heads=n_heads,
        d_head=d_model // n_heads,
        d_mlp=4 * d_model,
        n_ctx=2048,
        act_fn="gelu",
        d_vocab=50_304,
        normalization_type="LN",
        parallel_attn_mlp=True,
        positional_embedding_type="rotary",
        rotary_dim=d_model // n_heads // 4,
        rotary_adjacent_pairs=False,
        device=args.device,
        seed=0,
        init_weights=True,
    )
    model = HookedTransformer(config)
    model.cfg.model_name = "pythia-410m-shape"
    rows = args.tokens * 2 // 256 + 4096
    data = Dataset.from_dict({"input_ids": torch.randint(0, 50_304, (rows, 256)).tolist()})
    settings = LanguageModelSAERunnerConfig(
        sae=TopKTrainingSAEConfig(d_in=d_model, d_sae=d_sae, k=args.k, device=args.device),
        model_name="pythia-410m-shape",
        hook_name=f"blocks.{layer}.hook_resid_post",
        dataset_path="local",
        is_dataset_tokenized=True,
        streaming=False,
        context_size=256,
        prepend_bos=False,
        train_batch_size_tokens=4096,
        store_batch_size_prompts=32,
        n_batches_in_buffer=64,
        training_tokens=args.tokens,
        lr=3e-4,
        autocast=on_gpu,
        autocast_lm=on_gpu,
        device=args.device,
        seed=0,
        logger=LoggingConfig(log_to_wandb=False),
        n_checkpoints=0,
        checkpoint_path=None,
        output_path=None,
        verbose=False,
    )
    runner = Runner(settings, override_dataset=data, override_model=model)

    def wait():
        if on_gpu:
            torch.cuda.synchronize()

    ends = []
    step = SAETrainer.step

    def timed(self, batch):
        out = step(self, batch)
        wait()
        ends.append(time.perf_counter())
        return out

    SAETrainer.step = timed
    start = time.perf_counter()
    runner.run()
    wait()
    whole = time.perf_counter() - start
    skipped = len(ends) // 4
    row = {
        "peer": "saelens",
        "tokens": len(ends) * 4096,
        "whole_s": whole,
        "tokens_per_s": len(ends) * 4096 / whole,
        "first_step_s": ends[0] - start,
        "tokens_per_s_last_three_quarters": (len(ends) - 1 - skipped) * 4096 / (ends[-1] - ends[skipped]),
        "peak_mib": torch.cuda.max_memory_allocated() / 2**20 if on_gpu else None,
    }
    print(json.dumps(row))
    if args.json:
        with open(args.json, "a") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
