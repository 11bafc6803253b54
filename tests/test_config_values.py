"""Each value of a config is answered in its type and range, or refused in one clear line."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_kv_planner.errors import ConfigError
from vllm_kv_planner.files.json_file import parse_config, shown
from vllm_kv_planner.model.config import Config

# Values that make no sense


@pytest.mark.parametrize(
    "value",
    ["32", "", [32], {}, True, 32.0, 1e300, -1, 0, 1_001, 10**30, 10**4000, float("nan")],
)
def test_number_of_layers(value: Any) -> None:
    config = Config({"num_hidden_layers": value}, "m/config.json", prefix="text_config.")
    with pytest.raises(ConfigError) as caught:
        config.int("num_hidden_layers", "n_layer")
    message = str(caught.value)
    assert message.startswith(
        "m/config.json: text_config.num_hidden_layers must be a whole number from 1 to 1,000, is "
    )
    assert message.isprintable()
    assert len(message) < 200


@pytest.mark.parametrize("value", ["1.0", True, -0.5, float("inf"), float("nan"), [1.0], 10**400])
def test_number(value: Any) -> None:
    with pytest.raises(ConfigError, match="factor must be a number from 0 to"):
        Config({"factor": value}, "c").float("factor")


@pytest.mark.parametrize("value", [0, 1, "true", [], {}])
def test_bool(value: Any) -> None:
    with pytest.raises(ConfigError, match="must be true or false"):
        Config({"flag": value}, "c").bool("flag")


@pytest.mark.parametrize("value", [1, True, ["a"], {}, "x" * 5000])
def test_str(value: Any) -> None:
    with pytest.raises(ConfigError, match="must be a short string") as caught:
        Config({"name": value}, "c").str("name")
    assert len(str(caught.value)) < 150


@pytest.mark.parametrize("value", [1, True, "abc", {"0": 1}])
def test_lists(value: Any) -> None:
    config = Config({"items": value}, "c")
    for read in (config.list_of_ints, config.list_of_strs, config.list_of_subs):
        with pytest.raises(ConfigError, match="items must be a list, is"):
            read("items")


def test_items_of_lists() -> None:
    config = Config({"items": [1, "a", None], "nested": [{"n": 0}, 5]}, "c")
    with pytest.raises(ConfigError, match=r"items\[1\] must be a whole number"):
        config.list_of_ints("items")
    with pytest.raises(ConfigError, match=r"items\[0\] must be a string, is 1"):
        config.list_of_strs("items")
    with pytest.raises(ConfigError, match=r"nested\[1\] must be an object, is 5"):
        config.list_of_subs("nested")
    with pytest.raises(ConfigError, match="items must be a list of 4 items, has 3"):
        config.list_of_ints("items", length=4)
    with pytest.raises(ConfigError, match=r"c: nested\[0\]\.n must be a whole number from 1"):
        Config({"nested": [{"n": 0}]}, "c").list_of_subs("nested")[0].int("n")


@pytest.mark.parametrize("value", [1, "text", [], True])
def test_nested_objects(value: Any) -> None:
    with pytest.raises(ConfigError, match="text_config must be an object"):
        Config({"text_config": value}, "c").opt_sub("text_config")


# What is read as it should be


def test_values_in_order_of_spelling() -> None:
    config = Config({"n_head": 12, "num_attention_heads": 16, "flag": False, "f": 1}, "c")
    assert config.int("num_attention_heads", "n_head") == 16
    assert config.int("heads", "n_head") == 12
    assert config.bool("flag", default=True) is False
    assert config.float("f") == 1.0
    assert config.int("absent", default=7) == 7
    assert config.opt_int("absent") is None
    with pytest.raises(ConfigError, match="c: absent / gone is not given"):
        config.int("absent", "gone")


def test_null_is_not_set_and_overrides_class_defaults() -> None:
    defaults = {"sliding_window": 4096, "head_dim": 128}
    config = Config({"sliding_window": None, "old": 3}, "c").with_defaults(defaults)
    assert config.opt_int("sliding_window") is None
    assert config.opt_int("sliding_window", "old") == 3
    assert config.int("head_dim") == 128
    assert not config.has("head_dim")
    with pytest.raises(ConfigError, match="sliding_window is not given"):
        config.int("sliding_window")


def test_nested_values() -> None:
    config = Config({"text_config": {"layers": [{"n": 1}, {"n": 2}], "types": ["a"]}}, "c")
    text = config.sub("text_config")
    assert [layer.int("n") for layer in text.list_of_subs("layers", length=2)] == [1, 2]
    assert text.list_of_strs("types") == ["a"]
    assert text.list_of_ints("absent", default=[]) == []
    assert text.list_of_subs("absent") == []
    assert config.opt_sub("absent") is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON)
def test_any_value_is_answered_or_refused_in_a_line(value: Any) -> None:
    assert shown(value).isprintable()
    assert len(shown(value)) < 500
    config = Config({"key": value}, "c")
    for read in (
        config.int,
        config.float,
        config.bool,
        config.str,
        config.sub,
        config.list_of_ints,
        config.list_of_strs,
        config.list_of_subs,
    ):
        try:
            read("key")
        except ConfigError as error:
            assert str(error).isprintable()


@given(st.binary(max_size=200))
def test_any_bytes_are_an_object_or_refused(raw: bytes) -> None:
    try:
        assert isinstance(parse_config(raw, "c"), dict)
    except ConfigError as error:
        assert str(error).isprintable()
