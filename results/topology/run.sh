#!/bin/sh
# Makes what is here again. From the repository root:
#
#     results/topology/run.sh MODEL SAE GEMMA
#
# MODEL: SmolLM2-135M-Instruct.Q4_1.gguf. SAE: a directory with an SAE of its blocks.15.hook_resid_post; README.md says how that one was trained.
# GEMMA: gemma-3-270m-q4_k_m.gguf. scripts/fetch-models.sh fetches both models.
# ASSAY names the program [assay]; random directions are drawn by python3 with numpy.
set -eu
assay=${ASSAY:-assay} model=$1 sae=$2 gemma=$3 here=results/topology
scratch=$(mktemp -d)
trap 'rm -r "$scratch"' EXIT
mkdir -p "$here/circles" "$here/decoders" "$here/groups"

# Classes with an order. Turning takes most of the time: of the large model at one layer.
circles() { # model, name, layer, case, more…
    of=$1 name=$2 layer=$3 case=$4
    shift 4
    "$assay" circles --model "$of" --hook "blocks.$layer.hook_resid_post" --case "$case" --quiet "$@" \
        > "$here/circles/$name-$case-L$layer.md"
}
for case in weekdays months; do
    for layer in 2 5 10 20 25 29; do
        circles "$model" smollm2 "$layer" "$case" --without-turns --plot "$here/circles/smollm2-$case-L$layer.svg"
    done
    for layer in 2 5 9 13; do
        circles "$gemma" gemma3-270m "$layer" "$case" --without-turns --plot "$here/circles/gemma3-270m-$case-L$layer.svg"
    done
    circles models/bundled/small small 3 "$case"
    circles models/bundled/medium medium 4 "$case"
done
circles "$model" smollm2 15 weekdays --plot "$here/circles/smollm2-weekdays-L15.svg"
circles "$model" smollm2 15 months --without-turns --plot "$here/circles/smollm2-months-L15.svg"

# Decoder rows, and as many random directions in as many dimensions. Of 200 rows: bars of 300 random directions in 576 dimensions take 16 s a draw
# where those of 200 take 1.5 s.
decoder() { # rows, file or SAE, name, more…
    rows=$1 of=$2 name=$3
    shift 3
    "$assay" topology "$of" --rows "$rows" --quiet "$@" > "$here/decoders/$name.md"
}
random() { # rows, dimensions
    python3 -c "
import numpy as np, sys
x = np.random.default_rng(0).normal(size=($1, $2))
np.save(sys.argv[1], x / np.linalg.norm(x, axis=1, keepdims=True))" "$scratch/random-$1x$2.npy"
}
both=euclidean,angular
random 1024 128
random 16128 576
decoder 500 tests/golden/eval-small/L3_k8 small-L3-k8 --metric $both
for of in "tests/golden/eval-small/L3_k8 small-L3-k8-200" "$scratch/random-1024x128.npy random-1024x128" \
    "$sae smollm2-L15" "$scratch/random-16128x576.npy random-16128x576"; do
    decoder 200 "${of% *}" "${of##* }" --metric $both --plot "$here/decoders/${of##* }.svg" \
        --plot-parts "$here/decoders/${of##* }-parts.svg"
done
# Against the Gaussian alone, of other rows.
for seed in 1 2 3; do
    decoder 200 "$sae" "smollm2-L15-seed$seed" --metric angular --nulls gaussian --seed $seed
    decoder 200 "$scratch/random-16128x576.npy" "random-16128x576-seed$seed" --metric angular --nulls gaussian --seed $seed
done

# Groups of latents, and what they fire on.
"$assay" groups --model models/bundled/small --sae tests/golden/eval-small/L3_k8 --tokens models/bundled/eval.parquet \
    --context-size 128 --quiet > "$here/groups/small-L3-k8.md"
