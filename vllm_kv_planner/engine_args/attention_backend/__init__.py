"""Which attention backend runs a layer, and what it makes of block sizes and pages.

The tables in ``attention_backends.json`` say what each backend supports;
``select_backend`` goes through them as vLLM 0.33 does.
"""

from .backend import AttentionBackend, hybrid_bytes_per_token, layer_bytes_per_token
from .declaration import Capability, EngineFacts
from .kv_dtypes import boundary_skip_layers
from .preferences import Preferences, preferences_of
from .select import fixed_backend, select_backend, select_cpu_backend

__all__ = [
    "AttentionBackend",
    "Capability",
    "EngineFacts",
    "Preferences",
    "boundary_skip_layers",
    "fixed_backend",
    "hybrid_bytes_per_token",
    "layer_bytes_per_token",
    "preferences_of",
    "select_backend",
    "select_cpu_backend",
]
