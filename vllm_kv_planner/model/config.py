"""Hand out the values of a model's config one by one, each checked where it is used.

A config.json comes from a stranger. ``read_config_file`` and ``parse_config`` bound what
reading one can cost (``files/json_file.py``); ``Config`` checks type and range of each value read.
Whatever is wrong becomes one ``ConfigError`` line: which file, which key, which value, what
is valid. Nothing in a config is ever run: ``auto_map`` and ``trust_remote_code`` are not read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from ..errors import ConfigError
from ..files.json_file import shown

# The largest value taken for a whole number, by key; far above any model that exists. Work grows
# with the layers.
_DEFAULT_MAXIMUM = 1_000_000_000
_MAXIMUM = {
    **dict.fromkeys(("num_hidden_layers", "num_layers", "n_layer", "n_layers"), 1_000),
    **dict.fromkeys(("encoder_layers", "decoder_layers", "depth", "num_mem_blocks"), 1_000),
    **dict.fromkeys(("num_nextn_predict_layers", "loop_num", "n_recurrent_loops"), 100),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 100_000),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "n_head_kv"), 100_000),
    **dict.fromkeys(("head_dim", "v_head_dim", "qk_nope_head_dim", "kv_lora_rank"), 1_000_000),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "intermediate_size"), 10_000_000),
}

# Inside ``Config`` the names int, float, bool and str are its methods.
_Int = int
_Float = float
_Bool = bool
_Str = str

_Value = TypeVar("_Value")


class Config:
    """A JSON object whose values are handed out checked.

    Each accessor takes a key and its alternative spellings: the first that is set, and not to
    null, answers. Where the JSON has none of them, ``defaults`` (the values of the model's own
    config class) is asked the same way; a null in the JSON overrides those, as it does in
    transformers: ``"sliding_window": null`` is no window, not Mistral's default one. With no
    answer an ``opt_…`` accessor returns None, the others their ``default`` or, without one,
    raise ConfigError.
    """

    __slots__ = ("data", "defaults", "prefix", "where")

    def __init__(
        self,
        data: Mapping[str, Any],
        where: str,
        *,
        defaults: Mapping[str, Any] | None = None,
        prefix: str = "",
    ) -> None:
        self.data = data
        self.where = where
        self.defaults: Mapping[_Str, Any] = {} if defaults is None else defaults
        self.prefix = prefix  # e.g. "text_config." in a nested object, for messages

    def with_defaults(self, defaults: Mapping[_Str, Any]) -> Config:
        """The same object, answering from ``defaults`` where it says nothing itself."""
        return Config(self.data, self.where, defaults=defaults, prefix=self.prefix)

    def get(self, *keys: _Str) -> Any:
        """The raw value of the first key that is set, else None."""
        return self._find(keys)[1]

    def has(self, *keys: _Str) -> _Bool:
        """Whether the JSON itself (not the defaults) sets one of ``keys``."""
        return any(self.data.get(key) is not None for key in keys)

    def error(self, key: _Str, problem: _Str) -> ConfigError:
        """A ConfigError about ``key``, naming the file and the key's place in it."""
        return ConfigError(f"{self.where}: {self.prefix}{key} {problem}")

    def int(
        self,
        *keys: _Str,
        default: _Int | None = None,
        minimum: _Int = 1,
        maximum: _Int | None = None,
    ) -> _Int:
        """A whole number from ``minimum`` to ``maximum`` (default: a generous one per key)."""
        value = self.opt_int(*keys, minimum=minimum, maximum=maximum)
        return self._or_default(keys, value, default)

    def opt_int(self, *keys: _Str, minimum: _Int = 1, maximum: _Int | None = None) -> _Int | None:
        """As ``int``; None where nothing is set."""
        key, value = self._find(keys)
        return None if value is None else self._checked_int(key, value, minimum, maximum)

    def float(
        self,
        *keys: _Str,
        default: _Float | None = None,
        minimum: _Float = 0.0,
        maximum: _Float = 1e12,
    ) -> _Float:
        """A finite number from ``minimum`` to ``maximum``."""
        value = self.opt_float(*keys, minimum=minimum, maximum=maximum)
        return self._or_default(keys, value, default)

    def opt_float(
        self, *keys: _Str, minimum: _Float = 0.0, maximum: _Float = 1e12
    ) -> _Float | None:
        """As ``float``; None where nothing is set."""
        key, value = self._find(keys)
        if value is None:
            return None
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not minimum <= value <= maximum:  # NaN compares false
            raise self.refused(key, value, f"must be a number from {minimum:g} to {maximum:g}")
        return float(value)

    def bool(self, *keys: _Str, default: _Bool | None = None) -> _Bool:
        """``true`` or ``false``."""
        key, value = self._find(keys)
        if value is not None and not isinstance(value, bool):
            raise self.refused(key, value, "must be true or false")
        return self._or_default(keys, value, default)

    def str(self, *keys: _Str, default: _Str | None = None) -> _Str:
        """A string of at most 1,000 characters."""
        return self._or_default(keys, self.opt_str(*keys), default)

    def opt_str(self, *keys: _Str) -> _Str | None:
        """As ``str``; None where nothing is set."""
        key, value = self._find(keys)
        if value is not None and (not isinstance(value, str) or len(value) > 1000):
            raise self.refused(key, value, "must be a short string")
        return value

    def list_of_ints(
        self,
        *keys: _Str,
        length: _Int | None = None,
        minimum: _Int = 0,
        maximum: _Int | None = None,
        default: Sequence[_Int] | None = None,
    ) -> list[_Int]:
        """Whole numbers in a list, of exactly ``length`` items where that is given."""
        key, values = self._found_list(keys, length)
        if values is None:
            return list(self._or_default(keys, None, default))
        return [
            self._checked_int(f"{key}[{index}]", value, minimum, maximum)
            for index, value in enumerate(values)
        ]

    def list_of_strs(
        self,
        *keys: _Str,
        length: _Int | None = None,
        default: Sequence[_Str] | None = None,
    ) -> list[_Str]:
        """Strings in a list, of exactly ``length`` items where that is given."""
        key, values = self._found_list(keys, length)
        if values is None:
            return list(self._or_default(keys, None, default))
        for index, value in enumerate(values):
            if not isinstance(value, str):
                raise self.refused(f"{key}[{index}]", value, "must be a string")
        return list(values)

    def sub(self, *keys: _Str) -> Config:
        """The nested object under the first key that is set."""
        return self._or_default(keys, self.opt_sub(*keys), None)

    def opt_sub(self, *keys: _Str) -> Config | None:
        """As ``sub``; None where nothing is set."""
        key, value = self._find(keys)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self.refused(key, value, "must be an object")
        return Config(value, self.where, prefix=f"{self.prefix}{key}.")

    def list_of_subs(self, *keys: _Str, length: _Int | None = None) -> list[Config]:
        """Nested objects in a list; an absent one is an empty list, where that length may be."""
        key, values = self._found_list(keys, length)
        if values is None and length:
            raise self.error(keys[0], f"is missing: a list of {length} items is needed")
        for index, value in enumerate(values or ()):
            if not isinstance(value, Mapping):
                raise self.refused(f"{key}[{index}]", value, "must be an object")
        return [
            Config(value, self.where, prefix=f"{self.prefix}{key}[{index}].")
            for index, value in enumerate(values or ())
        ]

    def _find(self, keys: Iterable[_Str]) -> tuple[_Str, Any]:
        set_to_null = False
        for key in keys:
            value = self.data.get(key)
            if value is not None:
                return key, value
            set_to_null = set_to_null or key in self.data
        if not set_to_null:
            for key in keys:
                value = self.defaults.get(key)
                if value is not None:
                    return key, value
        return "", None

    def _found_list(self, keys: Iterable[_Str], length: _Int | None) -> tuple[_Str, Any]:
        key, value = self._find(keys)
        if value is None:
            return key, None
        if not isinstance(value, (list, tuple)):
            raise self.refused(key, value, "must be a list")
        if length is not None and len(value) != length:
            raise self.error(key, f"must be a list of {length} items, has {len(value)}")
        return key, list(value)

    def _checked_int(self, key: _Str, value: object, minimum: _Int, maximum: _Int | None) -> _Int:
        top = _MAXIMUM.get(key, _DEFAULT_MAXIMUM) if maximum is None else maximum
        if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= top:
            raise self.refused(key, value, f"must be a whole number from {minimum:,} to {top:,}")
        return value

    def refused(self, key: _Str, value: object, valid: _Str) -> ConfigError:
        """A ConfigError about a value of ``key``: what is valid, what it is."""
        return self.error(key, f"{valid}, is {shown(value)}")

    def _or_default(
        self, keys: Sequence[_Str], value: _Value | None, default: _Value | None
    ) -> _Value:
        if value is not None:
            return value
        if default is None:
            raise ConfigError(f"{self.where}: {self.prefix}{' / '.join(keys)} is not given")
        return default
