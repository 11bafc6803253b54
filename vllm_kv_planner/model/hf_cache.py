"""Find a file of a Hub repository in the local Hugging Face cache, reading its layout directly.

Layout (as ``huggingface_hub`` writes it): ``models--ORG--NAME/refs/REVISION`` holds a commit
hash, ``models--ORG--NAME/snapshots/COMMIT/`` the files of that commit.
"""

from __future__ import annotations

import os

# A commit hash is 40 characters; a ref file that holds much more is not one.
_MAX_REF_BYTES = 200


def hf_home() -> str:
    """Hugging Face's folder: ``HF_HOME``, else ``huggingface`` in the user's cache folder."""
    home = os.environ.get("HF_HOME")
    if not home:
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
        home = os.path.join(cache, "huggingface")
    return os.path.expanduser(os.path.expandvars(home))


def cache_folder() -> str:
    """Where downloaded repositories lie, by the variables and order ``huggingface_hub`` uses."""
    folder = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if folder:
        return os.path.expanduser(os.path.expandvars(folder))
    return os.path.join(hf_home(), "hub")


def cached_snapshot(repo_id: str, revision: str) -> tuple[str, str] | None:
    """The folder and the commit hash that the cache holds for ``revision``, or None.

    ``revision`` is a branch, a tag or a commit hash; ``repo_id`` must be a valid Hub id.
    """
    repo = os.path.join(cache_folder(), "models--" + repo_id.replace("/", "--"))
    commit = _read_ref(os.path.join(repo, "refs", *revision.split("/"))) or revision
    if "/" in commit or commit in ("", ".", ".."):
        return None
    snapshot = os.path.join(repo, "snapshots", commit)
    return (snapshot, commit) if os.path.isdir(snapshot) else None


def _read_ref(path: str) -> str | None:
    try:
        if not os.path.isfile(path):
            return None
        with open(path, "rb") as file:
            return file.read(_MAX_REF_BYTES).decode("ascii").strip()
    except (OSError, ValueError):  # unreadable, or not a commit hash: as if it were not there
        return None
