#!/usr/bin/env python3
"""dictionary_learning: `ae.pt` to `ae.safetensors`, beside a copy of its `config.json`.

    python scripts/convert/dictionary_learning.py ae.pt DIRECTORY

Needs torch and safetensors; works offline.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

from common import fail, load
from safetensors.torch import save_file


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    config = source.with_name("config.json")
    if not config.is_file():
        fail(f"{config} is not there; without it nobody knows which dictionary the weights are of")
    if target.exists():
        fail(f"{target} is there already; give another directory")
    state = load(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".convert-") as staged:
        new = Path(staged) / "sae"
        new.mkdir()
        save_file({name: value.contiguous() for name, value in state.items()}, new / "ae.safetensors")
        shutil.copyfile(config, new / "config.json")
        os.rename(new, target)
    print(f"{target}: {', '.join(sorted(state))}")


if __name__ == "__main__":
    main()
