#!/usr/bin/env python3
"""Writes src/catalogue/saes.tsv.gz, the table of published SAEs behind `assay saes`.

    python scripts/catalogue.py [--out FILE] [--print]

Run it with a Python that has sae-lens and PyYAML. Facts come from sae-lens' registry `pretrained_saes.yaml` (MIT licence,
https://github.com/decoderesearch/SAELens), of which ids, repositories, paths, models, L0s, factors and Neuronpedia ids are taken, and
from what its loaders (`loading/pretrained_sae_loaders.py`) derive from a path: hooks, widths, architectures. Releases that are not in
the registry are in OUTSIDE below. The same installation gives the same bytes.

The table is text, tab-separated, gzipped. The first line names version and source. A line that begins with @ is a release:

    @release  repository  model  format  pickled (0, 1)  example of a path, where ids are not listed

and every line after it is an SAE of that release; empty is unknown, or for the path: the same as the id:

    id  path  hook  hook of the output  architecture  width  L0  bytes  factor of the input  Neuronpedia id
"""

import argparse
import gzip
import importlib.metadata
import re
import sys
from pathlib import Path

import yaml

VERSION = 1

# What the registry calls a model, and its name on the hub.
MODELS = {
    "gpt2-small": "openai-community/gpt2",
    "pythia-70m-deduped": "EleutherAI/pythia-70m-deduped",
    "mistral-7b": "mistralai/Mistral-7B-v0.1",
    **{f"gemma-{name}": f"google/gemma-{name}" for name in ["2b", "2b-it", "2-2b", "2-9b", "2-9b-it", "2-27b"]},
    **{f"qwen3-{size}b": f"Qwen/Qwen3-{size}B" for size in ["0.6", "1.7", "4", "8", "14"]},
}

# Where the registry names another model than the repository: the instruction-tuned model's SAEs.
MODEL_OF_RELEASE = {"gemma-scope-9b-it-res": "google/gemma-2-9b-it"}

# Releases outside the registry: repository, model, format, and a path in it. The ids are the repository's own directories.
OUTSIDE = [
    ("EleutherAI/sae-llama-3-8b-32x", "meta-llama/Meta-Llama-3-8B", "sparsify", "layers.10"),
    ("EleutherAI/sae-llama-3-8b-32x-v2", "meta-llama/Meta-Llama-3-8B", "sparsify", "layers.10"),
    ("EleutherAI/sae-llama-3.1-8b-32x", "meta-llama/Llama-3.1-8B", "sparsify", "layers.23.mlp"),
    ("EleutherAI/sae-llama-3.1-8b-64x", "meta-llama/Llama-3.1-8B", "sparsify", "layers.29"),
    ("EleutherAI/skip-transcoder-SmolLM2-135M-128x", "HuggingFaceTB/SmolLM2-135M", "sparsify", "model.layers.10.mlp"),
    ("mntss/transcoder-Llama-3.2-1B", "meta-llama/Llama-3.2-1B", "circuit-tracer", "layer_8.safetensors"),
    ("mntss/skip-transcoder-Llama-3.2-1B-131k-nobos", "meta-llama/Llama-3.2-1B", "circuit-tracer", "layer_8.safetensors"),
]

# The registry's loaders, as formats, and whether what they read is pickled.
FORMATS = {
    None: ("saelens", False),
    "gemma_2": ("gemma-scope", False),
    "gemma_2_transcoder": ("gemma-scope", False),
    "gemma_3": ("gemma-scope-2", False),
    "llama_scope": ("llama-scope", False),
    "llama_scope_r1_distill": ("llama-scope", False),
    "dictionary_learning_1": ("dictionary-learning", True),
    "mwhanna_transcoder": ("circuit-tracer", False),
    "mntss_clt_layer_transcoder": ("cross-layer", False),
    "temporal": ("temporal", False),
    "connor_rob_hook_z": ("hook-z", True),
    "goodfire": ("goodfire", True),
    "deepseek_r1": ("qresearch", True),
    "qwen_scope": ("qwen-scope", True),
}

# d_model, and H·D, the width of attn.hook_z, of the models whose files' size follows from it.
D_MODEL = {"google/gemma-2-2b": (2304, 2048), "google/gemma-2-9b": (3584, 4096), "google/gemma-2-27b": (4608, 4096)}
D_MODEL["google/gemma-2-9b-it"] = D_MODEL["google/gemma-2-9b"]
D_LLAMA_8B = 4096

KINDS = ["hook_resid_pre", "hook_resid_mid", "hook_resid_post", "hook_attn_out", "hook_mlp_out", "hook_z"]


def layer_of(text):
    found = re.search(r"(?:layers?_?|blocks\.|^l|/L)(\d+)", text)
    return int(found.group(1)) if found else None


def hooks(loader, repo, sae_id, path):
    """The hook that an SAE reads, and for a transcoder the one that it predicts, in Assay's names."""
    layer = layer_of(path) if layer_of(path) is not None else layer_of(sae_id)
    at = f"blocks.{layer}."
    if loader in ("gemma_2", "gemma_3"):
        if path.startswith("embedding"):
            return "hook_embed", ""
        kind = path.split("/")[0] if loader == "gemma_3" else repo.rsplit("-", 1)[1]
        if kind.startswith("transcoder"):
            # What the files say: pre_feedforward_layernorm.output, the MLP's input after the norm with its gain.
            return at + "mlp.hook_in", at + "hook_mlp_out"
        for name, hook in [("res", "hook_resid_post"), ("att", "attn.hook_z"), ("mlp", "hook_mlp_out")]:
            if kind.startswith(name):
                return at + hook, ""
        raise ValueError(f"{repo} {path}: which hook?")
    if loader == "gemma_2_transcoder":
        return at + "ln2.hook_normalized", at + "hook_mlp_out"
    if loader == "mwhanna_transcoder":
        return at + "mlp.hook_in", at + "hook_mlp_out"
    if loader == "mntss_clt_layer_transcoder":
        return "", ""  # in the repository's config.yaml
    if loader == "llama_scope":
        kind = re.search(r"L\d+([RAM])-", path).group(1)
        return at + {"R": "hook_resid_post", "A": "hook_attn_out", "M": "hook_mlp_out"}[kind], ""
    found = next((kind for kind in KINDS if kind in sae_id), None)
    if found:
        return at + found.replace("hook_z", "attn.hook_z"), ""
    if loader in ("dictionary_learning_1", "goodfire", "deepseek_r1", "qwen_scope", "llama_scope_r1_distill", "temporal"):
        return at + "hook_resid_post", ""
    raise ValueError(f"{sae_id}: which hook?")


def count(text):
    """16k -> 16384, 1m -> 1048576."""
    number, unit = re.fullmatch(r"(\d+)([km]?)", text.lower()).groups()
    return int(number) * {"": 1, "k": 1 << 10, "m": 1 << 20}[unit]


# 65k, 131k, 262k and 524k are rounded down from powers of two.
ROUND = {"65k": 1 << 16, "131k": 1 << 17, "262k": 1 << 18, "524k": 1 << 19}


def width(loader, repo, sae_id, path, neuronpedia):
    """Latents, where a name says how many."""
    found = re.search(r"width_(\d+[km])", path)
    if found:
        return ROUND.get(found.group(1), count(found.group(1)))
    if loader == "llama_scope":
        return D_LLAMA_8B * int(re.search(r"-(\d+)x$", path).group(1))
    if loader in ("goodfire", "deepseek_r1"):
        return 1 << 16  # the loader's
    for pattern, text in [
        (r"-W(\d+K)-", repo),
        (r"-w-(\d+k)-", repo),
        (r"v5_(\d+k)_", path),
        (r"_ds(\d+)_", path),
        (r"hook_\w+?_(\d+)(?:_|:|$)", path),
        (r"-fs-(\d+)", path),
    ]:
        found = re.search(pattern, text)
        if found:
            return count(found.group(1))
    found = re.search(r"2pow(\d+)", repo + path)
    if found:
        return 1 << int(found.group(1))
    found = re.search(r"-res-(\d+k)(?:__|$)", neuronpedia)
    if found:
        return ROUND.get(found.group(1), count(found.group(1)))
    return ""


def l0(sae, path):
    if "l0" in sae:
        return f"{sae['l0']:g}"
    found = re.search(r"average_l0_(\d+)", path)
    return found.group(1) if found else ""


def architecture(loader, release, sae_id):
    if loader == "gemma_3" and "transcoder" in release:
        return "jumprelu_skip_transcoder" if sae_id.endswith("_affine") else "jumprelu_transcoder"
    fixed = {
        "gemma_2": "jumprelu",
        "gemma_2_transcoder": "jumprelu_transcoder",
        "gemma_3": "jumprelu",
        "llama_scope": "jumprelu",
        "llama_scope_r1_distill": "jumprelu",
        "qwen_scope": "topk",
        "goodfire": "standard",
        "deepseek_r1": "standard",
        "connor_rob_hook_z": "standard",
        "mwhanna_transcoder": "transcoder",
        "mntss_clt_layer_transcoder": "cross-layer transcoder",
        "temporal": "temporal",
    }
    if loader in fixed:
        return fixed[loader]
    if loader == "dictionary_learning_1":
        names = {"topk": "topk", "vanilla": "standard", "standard": "standard", "panneal": "standard", "gated": "gated"}
        names["saebench_gemma"] = "matryoshka"
        return next((value for name, value in names.items() if name in release), "")
    return "matryoshka" if "matryoshka" in release else "topk" if "-v5-" in release else ""


def size(loader, model, repo, n):
    """Bytes of the weights, where their type and shape are known."""
    if not n:
        return ""
    if loader in ("gemma_2", "gemma_2_transcoder"):  # float32
        d = D_MODEL[model][1 if repo.endswith("att") else 0]
        return 4 * (2 * d * n + 2 * n + d)
    if loader == "llama_scope":  # bfloat16
        return 2 * (2 * D_LLAMA_8B * n + n + D_LLAMA_8B)
    return ""


def natural(text):
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", text)]


def place(loader, path):
    """What is given to `--sae` after the repository."""
    return f"W_enc_{path}.safetensors" if loader == "mntss_clt_layer_transcoder" else str(path)


def table(registry):
    for release, entry in sorted(registry.items()):
        loader, repo = entry["conversion_func"], entry["repo_id"]
        model = MODEL_OF_RELEASE.get(release) or MODELS.get(entry["model"], entry["model"])
        assert "/" in model, f"{release}: {model} is no name on the hub"
        form, pickled = FORMATS[loader]
        yield [f"@{release}", repo, model, form, str(int(pickled)), ""]
        rows = []
        for sae in entry["saes"]:
            sae_id, path, pedia = sae["id"], place(loader, sae["path"]), sae.get("neuronpedia") or ""
            hook, out = hooks(loader, repo, sae_id, path)
            n = width(loader, repo, sae_id, path, pedia)
            # Llama Scope's own files have the factor; the temporal SAEs' configuration has it too.
            factor = "" if loader in ("llama_scope", "temporal") else sae.get("norm_scaling_factor", "")
            row = [sae_id, "" if path == sae_id else path, hook, out, architecture(loader, release, sae_id), n, l0(sae, path)]
            row += [size(loader, model, repo, n), factor, pedia]
            rows.append([str(cell) for cell in row])
        yield from sorted(rows, key=lambda row: (natural(row[2]), row[5] and int(row[5]) or 0, natural(row[0])))
    for repo, model, form, example in OUTSIDE:
        yield [f"@{repo}", repo, model, form, "0", example]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    root = Path(__file__).resolve().parent.parent
    parser.add_argument("--out", type=Path, default=root / "src/catalogue/saes.tsv.gz")
    parser.add_argument("--print", action="store_true", help="print the text instead")
    args = parser.parse_args()
    dist = importlib.metadata.distribution("sae-lens")
    registry = yaml.load(Path(dist.locate_file("sae_lens/pretrained_saes.yaml")).read_text(), Loader=yaml.CSafeLoader)
    lines = [f"# assay catalogue {VERSION}\tsae-lens {dist.version} pretrained_saes.yaml (MIT)"]
    lines += ["\t".join(row) for row in table(registry)]
    assert not any("\n" in line for line in lines)
    text = "\n".join(lines) + "\n"
    if args.print:
        sys.stdout.write(text)
        return
    args.out.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    saes = sum(not line.startswith(("@", "#")) for line in lines)
    print(f"{args.out}: {saes} SAEs, {len(text)} bytes of text, {args.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
