"""Files of a Hub repository in the local Hugging Face cache: its layout, read and written.

Layout (as ``huggingface_hub`` has it): ``models--ORG--NAME/refs/REVISION`` holds a commit hash,
``models--ORG--NAME/snapshots/COMMIT/`` the files of that commit, as links to
``models--ORG--NAME/blobs/ETAG``, and ``models--ORG--NAME/.no_exist/COMMIT/`` the names of files
that the commit does not have.
"""

from __future__ import annotations

import os

from ..errors import InputError

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
    repo = _repository(repo_id)
    commit = _read_ref(os.path.join(repo, "refs", *revision.split("/"))) or revision
    if "/" in commit or commit in ("", ".", ".."):
        return None
    snapshot = os.path.join(repo, "snapshots", commit)
    return (snapshot, commit) if os.path.isdir(snapshot) else None


def is_commit(text: str | None) -> bool:
    """Whether it is a commit hash in full: 40 hexadecimal digits."""
    return text is not None and len(text) == 40 and not set(text) - set("0123456789abcdef")


def blob_tag(raw: bytes) -> str:
    """The Hub's tag of a file that lies in git itself: git's hash of it."""
    import hashlib

    return hashlib.sha1(b"blob %d\0" % len(raw) + raw, usedforsecurity=False).hexdigest()


def lacks(repo_id: str, commit: str, filename: str) -> bool:
    """Whether the Hub has said that the commit has no such file."""
    return os.path.exists(os.path.join(_repository(repo_id), ".no_exist", commit, filename))


def keep(repo_id: str, revision: str, commit: str, filename: str, raw: bytes | None) -> None:
    """Keep what the Hub answered: a file's bytes, or that there is no such file (None).

    Each file is written whole or not at all. A branch that the cache knows already stays where
    it points, as other files of that commit may be all there is. A cache that cannot be written
    to keeps nothing.
    """
    repo = _repository(repo_id)
    try:
        if raw is None:
            _write(os.path.join(repo, ".no_exist", commit, filename), b"")
            return
        blob = os.path.join(repo, "blobs", blob_tag(raw))
        file = os.path.join(repo, "snapshots", commit, filename)
        if not os.path.exists(blob):
            _write(blob, raw)
        if not os.path.lexists(file):
            os.makedirs(os.path.dirname(file), exist_ok=True)
            try:
                os.symlink(os.path.relpath(blob, os.path.dirname(file)), file)
            except FileExistsError:
                pass
            except OSError:  # no links on this file system, or for this user
                _write(file, raw)
        ref = os.path.join(repo, "refs", *revision.split("/"))
        if revision != commit and not os.path.lexists(ref):
            _write(ref, commit.encode())
    except (OSError, InputError):
        return


def _write(path: str, raw: bytes) -> None:
    from ..files.written import whole_file

    os.makedirs(os.path.dirname(path), exist_ok=True)
    with whole_file(path, binary=True) as file:
        file.write(raw)


def _repository(repo_id: str) -> str:
    return os.path.join(cache_folder(), "models--" + repo_id.replace("/", "--"))


def _read_ref(path: str) -> str | None:
    try:
        if not os.path.isfile(path):
            return None
        with open(path, "rb") as file:
            return file.read(_MAX_REF_BYTES).decode("ascii").strip()
    except (OSError, ValueError):  # unreadable, or not a commit hash: as if it were not there
        return None
