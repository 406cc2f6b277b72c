#!/bin/sh
# Makes every file of this directory again, in about an hour on two cores. From the repository root:
#
#     results/topology/run.sh MODEL SAE
#
# MODEL: SmolLM2-135M-Instruct.Q4_1.gguf. SAE: a directory with an SAE of its blocks.15.hook_resid_post.
# ASSAY names the program [assay]; the random decoders are drawn by python3 with numpy.
set -eu
assay=${ASSAY:-assay} model=$1 sae=$2 here=results/topology
scratch=$(mktemp -d)
trap 'rm -r "$scratch"' EXIT
mkdir -p "$here/circles" "$here/decoders" "$here/groups"

# Classes with an order. Turning takes most of the time: at a few layers of the large model, at all of the small ones.
circles() { # model, name, layer, case, more…
    of=$1 name=$2 layer=$3 case=$4
    shift 4
    "$assay" circles --model "$of" --hook "blocks.$layer.hook_resid_post" --case "$case" --quiet "$@" \
        > "$here/circles/$name-$case-L$layer.md"
}
for case in weekdays months; do
    for layer in 2 10 20 25 29; do
        circles "$model" smollm2 "$layer" "$case" --without-turns
    done
    circles models/bundled/small small 3 "$case"
    circles models/bundled/medium medium 4 "$case"
    circles "$model" smollm2 15 "$case" --plot "$here/circles/smollm2-$case-L15.svg"
done
circles "$model" smollm2 5 weekdays --plot "$here/circles/smollm2-weekdays-L5.svg"
circles "$model" smollm2 5 months --without-turns --plot "$here/circles/smollm2-months-L5.svg"

# Decoder rows, and random directions in as many dimensions.
decoder() { # file or SAE, name
    "$assay" topology "$1" --metric euclidean,angular --rows 300 --quiet \
        --out "$scratch/$2" --plot "$here/decoders/$2.svg" > "$here/decoders/$2.md"
    cp "$scratch/$2/topology.parquet" "$here/decoders/$2.parquet"
}
random() { # rows, dimensions
    python3 -c "
import numpy as np, sys
x = np.random.default_rng(0).normal(size=($1, $2))
np.save(sys.argv[1], x / np.linalg.norm(x, axis=1, keepdims=True))" "$scratch/random-$1x$2.npy"
}
random 1024 128
random 16128 576
decoder tests/golden/eval-small/L3_k8 small-L3-k8
decoder "$scratch/random-1024x128.npy" random-1024x128
decoder "$sae" smollm2-L15
decoder "$scratch/random-16128x576.npy" random-16128x576

# Groups of latents, and what they fire on.
"$assay" groups --model models/bundled/small --sae tests/golden/eval-small/L3_k8 --tokens models/bundled/eval.parquet \
    --context-size 128 --quiet > "$here/groups/small-L3-k8.md"
"$assay" groups --model "$model" --sae "$sae" --text models/bundled/corpus-eval.jsonl.zst --quiet > "$here/groups/smollm2-L15.md"
