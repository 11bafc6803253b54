"""Fetch one file of a repository from the Hugging Face Hub, or a part: one GET, bounded.

Imported only when the network is needed, as urllib alone takes longer to import than a plan.
Environment: ``HF_ENDPOINT``; the token in ``HF_TOKEN``, else in the file ``HF_TOKEN_PATH``
names, else in the ``token`` file of the Hugging Face folder.
"""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.parse
import urllib.request
from email.message import Message
from typing import IO, Any

from ..errors import ConfigError, printable
from ..files.json_file import MAX_FILE_BYTES, parse_config, read_regular_file
from ..records import dataclass
from .exchange import Deadline, Exchange
from .hf_cache import hf_home

DEFAULT_ENDPOINT = "https://huggingface.co"
_MAX_REDIRECTS = 5
_CHUNK_BYTES = 64 * 1024
HTTP_PARTIAL = 206
HTTP_NOT_CHANGED = 304
HTTP_NO_SUCH_RANGE = 416


class NotOnHub(ConfigError):
    """The Hub was asked and has no such repository, or hides that it has (404, 401)."""


class NoAnswer(ConfigError):
    """The Hub could not be asked: no network, no such host, too slow, no end of its answer."""


@dataclass(frozen=True)
class HubFile:
    """One fetched file: the parsed object, and what it was parsed from."""

    content: dict[str, Any]
    fetched: HubBytes


@dataclass(frozen=True)
class HubBytes:
    """Bytes of one file, the commit it is of, the address asked, and the Hub's tag of it.

    ``changed`` is False where the Hub says that the copy asked about is still right; then there
    are no bytes.
    """

    raw: bytes
    commit: str | None
    url: str
    etag: str | None = None
    changed: bool = True


def fetch_json(
    repo_id: str,
    revision: str,
    filename: str,
    *,
    deadline: Deadline | None = None,
    repo_known: bool = False,
    etag: str | None = None,
) -> HubFile | None:
    """``filename`` of ``repo_id`` at ``revision``; None when the repository has no such file.

    Args:
        repo_id: ``ORG/NAME``.
        revision: Branch, tag or commit.
        filename: In the repository.
        deadline: Of all files of the model; one file has its own besides.
        repo_known: The repository has given a file, so an answer of 404 that gives no reason, as
            mirrors send it, is about this file alone.
        etag: Of a copy at hand: an answer that it still holds has no content.

    Raises NotOnHub for an unknown repository, NoAnswer for a network that fails, ConfigError
    for an unknown revision, a gated repository or a file that is not a JSON object.
    """
    fetched = fetch_bytes(
        repo_id,
        revision,
        filename,
        limit=MAX_FILE_BYTES,
        deadline=deadline,
        repo_known=repo_known,
        etag=etag,
    )
    if fetched is None:
        return None
    where = f"{repo_id}'s {filename} on the Hub"
    return HubFile(parse_config(fetched.raw, where) if fetched.changed else {}, fetched)


def fetch_bytes(
    repo_id: str,
    revision: str,
    filename: str,
    *,
    limit: int,
    start: int = 0,
    count: int | None = None,
    deadline: Deadline | None = None,
    repo_known: bool = False,
    etag: str | None = None,
) -> HubBytes | None:
    """A file, or ``count`` bytes of it from ``start`` on; None when there is no such file.

    Reading stops at the first chunk past ``limit`` bytes, for the caller to refuse; a server that
    does not heed ranges sends the file from its beginning, which is cut here. Arguments besides,
    and what is raised, as ``fetch_json``.
    """
    url = _file_url(repo_id, revision, filename)
    token = _token()
    request = _request(url, token)
    if count is not None:
        request.add_header("Range", f"bytes={start}-{start + count - 1}")
        limit = count
    if etag is not None:
        request.add_header("If-None-Match", f'"{etag}"')
    redirects = _Redirects(token)
    where = f"{repo_id}'s {filename} on the Hub"
    try:
        with (
            Exchange(start + limit, deadline) as exchange,
            exchange.open(request, redirects) as response,
        ):
            commit = redirects.commit or response.headers.get("X-Repo-Commit") or ""
            tag = response.headers.get("ETag") or ""
            is_part = count is not None and response.status == HTTP_PARTIAL
            skipped = 0 if is_part else start
            raw = _read_body(response, skipped + limit)[skipped:]
            raw = raw if count is None else raw[:count]
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == HTTP_NOT_CHANGED and etag is not None:
            return HubBytes(b"", None, url, etag, changed=False)
        if repo_known and error.code in (404, 410) and not error.headers.get("X-Error-Code"):
            return None
        if error.code == HTTP_NO_SUCH_RANGE and count is not None:
            return HubBytes(b"", None, url)
        refusal = _refusal(error, repo_id, revision, has_token=bool(token))
        if refusal is None:
            return None
        raise refusal from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise NoAnswer(
            f"{where}: {_host(url)} did not answer ({printable(str(reason))[:120]})"
        ) from None
    is_hash = len(commit) == 40 and commit.isalnum() and commit.isascii()
    return HubBytes(raw, commit if is_hash else None, url, tag.removeprefix("W/").strip('"'))


def _file_url(repo_id: str, revision: str, filename: str) -> str:
    quoted = (
        urllib.parse.quote(repo_id),
        "resolve",
        urllib.parse.quote(revision, safe=""),
        urllib.parse.quote(filename),
    )
    return "/".join((endpoint(), *quoted))


def _request(url: str, token: str | None) -> urllib.request.Request:
    request = urllib.request.Request(url, headers={"User-Agent": "vllm-kv-planner"})
    if token:
        # Unredirected: urllib never passes such a header on to where a redirect leads.
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    return request


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a few redirects, over http(s) only, giving the token to the first host alone."""

    max_redirections = _MAX_REDIRECTS

    def __init__(self, token: str | None) -> None:
        self.token = token
        self.commit: str | None = None
        self.first: tuple[str, str] | None = None

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,
        newurl: str,
    ) -> urllib.request.Request:
        """The request to follow a redirect with; URLError where it is not to be followed."""
        # The Hub names the commit in its own answer, not in that of the storage it points to.
        self.commit = self.commit or headers.get("X-Repo-Commit")
        old, new = urllib.parse.urlsplit(req.full_url), urllib.parse.urlsplit(newurl)
        self.first = self.first or (old.scheme, old.netloc)
        if new.scheme not in ("http", "https") or (old.scheme == "https" != new.scheme):
            fp.close()
            raise urllib.error.URLError(f"redirected to {new.scheme}:, which is not followed")
        request = urllib.request.Request(newurl, headers=dict(req.headers))
        if self.token and (new.scheme, new.netloc) == self.first:
            # A renamed repository: the same host, which needs the token again.
            request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        return request

    # Python 3.10 knows no 308.
    http_error_308 = urllib.request.HTTPRedirectHandler.http_error_302


def endpoint() -> str:
    """The Hub's address, of ``HF_ENDPOINT`` or its own. Raises ConfigError where it is none."""
    address = (os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")
    parts = urllib.parse.urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise ConfigError("HF_ENDPOINT must be an address like https://huggingface.co")
    return address


def _token() -> str | None:
    """The user's Hub token, or None. It appears in no message."""
    token = os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN")
    if not token:
        path = os.environ.get("HF_TOKEN_PATH") or os.path.join(hf_home(), "token")
        try:
            raw = read_regular_file(os.path.expanduser(path), 1000)
        except (OSError, ValueError):
            return None
        if raw is None:
            raise ConfigError(
                f"{printable(path)}: not a regular file, so not a Hub token (HF_TOKEN_PATH names "
                "another)"
            )
        token = raw.decode("latin-1")
    token = token.strip()
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError("HF_TOKEN holds characters that no Hub token has")
    return token or None


def _read_body(response: Any, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while size <= limit and (chunk := response.read1(_CHUNK_BYTES)):
        chunks.append(chunk)
        size += len(chunk)
    return b"".join(chunks)  # past the limit: whoever asked refuses it, or wants no more


def _refusal(
    error: urllib.error.HTTPError, repo_id: str, revision: str, *, has_token: bool
) -> ConfigError | None:
    """What an HTTP error means; None for a repository that merely lacks the file."""
    kind = error.headers.get("X-Error-Code") or ""
    if kind == "EntryNotFound":
        return None
    if kind == "RevisionNotFound":
        return ConfigError(f"{repo_id} has no revision {printable(revision)} on the Hub")
    if kind == "GatedRepo" or error.code == 403:
        advice = (
            "the token in HF_TOKEN has no access to it" if has_token else "set HF_TOKEN to a token"
        )
        return ConfigError(
            f"{repo_id} is gated or private on the Hub: {advice}"
            f"{'' if has_token else ' that has access to it'} (HTTP {error.code})"
        )
    if error.code == 401:
        # The Hub hides private repositories: to a stranger, they and missing ones look the same.
        return NotOnHub(
            f"{repo_id} is not on the Hub, or private"
            + (" and HF_TOKEN's token not accepted" if has_token else " (then set HF_TOKEN)")
        )
    if error.code in (404, 410):
        return NotOnHub(f"{repo_id} is not on the Hub")
    return ConfigError(f"{repo_id}: {_host(error.url)} answered HTTP {error.code}")


def _host(url: str) -> str:
    return printable(urllib.parse.urlsplit(url).netloc.rpartition("@")[2])
