#!/usr/bin/env python3
"""Do other tools compute what assay computes, of an SAE of every class that it trains?

    python classes.py DIR [TOOL ...]

DIR is where one of the tests `writes_one_sae_of_each_class` and `writes_every_published_sae_for_other_tools` wrote: of each SAE or
transcoder that in the format of every tool that can hold it, and `encode.safetensors` with activations, latents and reconstructions. Each TOOL (all of roundtrip.py's, if none
is named) loads its own, and is compared with assay as roundtrip.py does. Exit status: 0 if all agree, else 1.
"""

import sys
from pathlib import Path

from roundtrip import TOOLS, compare


def main() -> int:
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    root, tools = Path(sys.argv[1]), sys.argv[2:] or list(TOOLS)
    results = {}
    for training in sorted(path for path in root.iterdir() if path.is_dir()):
        for tool in tools:
            if (training / tool).is_dir():
                print(f"\n== {training.name}: {tool}")
                results[training.name, tool] = compare(tool, training / tool, training / "encode.safetensors", latents=True)
    failed = [" ".join(of) for of, status in results.items() if status != 0]
    print(f"\n{len(results) - len(failed)} of {len(results)} agree")
    for name in failed:
        print(f"FAILED: {name}")
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(main())
