"""Every attention backend that ``--attention-backend`` or vLLM's own order can choose, by name."""

from __future__ import annotations

from .declaration import Declaration
from .latent_backends import DENSE_LATENT, SPARSE_LATENT
from .plain_backends import PLAIN

SELECTABLE: dict[str, Declaration] = {
    row.name: row for row in (*PLAIN, *DENSE_LATENT, *SPARSE_LATENT)
}
