"""Does Python's huggingface_hub read the cache that assay filled? See README.md beside this file.

    hub_cache.py read      everything of the two models and the dataset is in the cache, and whole; nothing is asked of the network
    hub_cache.py write     huggingface_hub fills the cache from HF_ENDPOINT, for assay to read

HF_HOME and HF_ENDPOINT come from the environment.
"""

import sys
from pathlib import Path

import huggingface_hub as hub

REPOS = [
    ("EleutherAI/pythia-70m", "model", ["config.json", "tokenizer.json", "model.safetensors"]),
    ("EleutherAI/pythia-410m", "model", ["config.json", "tokenizer.json", "model*.safetensors*"]),
    ("NeelNanda/pile-small-tokenized-2b", "dataset", ["*.parquet"]),
]


def main() -> None:
    read = sys.argv[1:] == ["read"]
    if not read and sys.argv[1:] != ["write"]:
        sys.exit(__doc__)
    for repo, kind, patterns in REPOS:
        path = hub.snapshot_download(repo, repo_type=kind, allow_patterns=patterns, local_files_only=read)
        files = [file for file in Path(path).rglob("*") if file.is_file()]
        assert files, f"{repo}: no files in {path}"
        for file in files:
            name = file.relative_to(path).as_posix()
            found = hub.try_to_load_from_cache(repo, name, repo_type=kind)
            assert found == str(file), f"{repo}: {name} is {found}"
        print(f"{repo}: {len(files)} files, {sum(file.stat().st_size for file in files)} bytes, commit {Path(path).name}")
    report = hub.scan_cache_dir()
    assert not report.warnings, report.warnings
    for repo in sorted(report.repos, key=lambda repo: repo.repo_id):
        print(f"{repo.repo_id}: {repo.nb_files} files, {repo.size_on_disk} bytes, refs {sorted(repo.refs)}")
    print(f"huggingface_hub {hub.__version__}: ok")


if __name__ == "__main__":
    main()
