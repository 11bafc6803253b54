"""Numbers as vLLM's command line reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_kv_planner.errors import InputError
from vllm_kv_planner.units import parse_memory_size, parse_quantity, parse_quantity_or_auto

DECIMAL = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
BINARY = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8192", 8192),
        ("1k", 1000),
        ("1K", 1024),
        ("25.6k", 25_600),
        ("2M", 2 * 1024**2),
        ("1.5g", 1_500_000_000),
        ("40G", 42_949_672_960),
        (" 8k ", 8000),
        ("1_000", 1000),
        ("-5", -5),  # parsed as vLLM parses it; EngineArgs refuses it
    ],
)
def test_quantity(text: str, value: int) -> None:
    assert parse_quantity(text) == value


@pytest.mark.parametrize("text", ["", "1e9", "1.5", "8Ki", "k", "0x10", "1 k", "80GB", "nan"])
def test_what_vllm_refuses(text: str) -> None:
    with pytest.raises(InputError):
        parse_quantity(text)


def test_refusals_say_what_to_write() -> None:
    with pytest.raises(InputError, match=r"did you mean 1\.5k\?"):
        parse_quantity("1.5K")
    with pytest.raises(InputError, match="write 80G "):
        parse_quantity("80GiB")
    with pytest.raises(InputError, match="write 80g "):
        parse_quantity("80GB")


@pytest.mark.parametrize("text", ["auto", "AUTO", " auto", "-1"])
def test_auto(text: str) -> None:
    assert parse_quantity_or_auto(text) == -1
    assert parse_quantity_or_auto("32k") == 32_000


@given(st.integers(0, 10**12), st.sampled_from(sorted(BINARY)))
def test_binary_suffix_is_exact(number: int, suffix: str) -> None:
    assert parse_quantity(f"{number}{suffix}") == number * BINARY[suffix]


@given(st.integers(0, 10**6), st.integers(0, 999), st.sampled_from(sorted(DECIMAL)))
def test_decimal_suffix_takes_fractions(number: int, thousandths: int, suffix: str) -> None:
    value = parse_quantity(f"{number}.{thousandths:03}{suffix}")
    exact = (number * 1000 + thousandths) * DECIMAL[suffix] // 1000
    assert abs(value - exact) <= max(1, exact // 10**12)


@given(st.text(max_size=12))
def test_any_text_gives_a_number_or_one_line(text: str) -> None:
    try:
        value = parse_quantity_or_auto(text)
    except InputError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert isinstance(value, int)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("80GiB", 80 * 1024**3),
        ("80 GiB", 80 * 1024**3),
        ("80gb", 80 * 10**9),
        ("79.5GiB", 85_362_475_008),
        ("512MiB", 512 * 1024**2),
        ("80G", 80 * 1024**3),
        ("1000", 1000),
    ],
)
def test_own_memory_sizes(text: str, value: int) -> None:
    assert parse_memory_size(text) == value


def test_absurdly_large() -> None:
    for text in ("9" * 400 + "k", "9" * 5000, "9" * 400 + "GiB"):
        with pytest.raises(InputError):
            parse_memory_size(text)


@pytest.mark.parametrize("text", ["0", "-1", "0GiB", "80 XiB", "lots"])
def test_memory_must_be_positive(text: str) -> None:
    with pytest.raises(InputError):
        parse_memory_size(text)
