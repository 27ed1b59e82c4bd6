"""The tables of docs/several_gpus.md are what its formulas give."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "several_gpus.md").read_text()
SIZES = (124e6, 1e9, 7e9)
SENT = {
    "`ddp`": lambda p: 7 / 8 * 8 * p,
    "`fsdp2`, bf16-mixed, A = 1": lambda p: 7 / 8 * (4 + 4) * p,
    "`fsdp2`, bf16-mixed, A = 4": lambda p: 7 / 8 * (4 * 4 + 4) * p,
    "`fsdp2`, 32-true, A = 1": lambda p: 7 / 8 * (8 + 4) * p,
}
HELD = {
    "`ddp` | 16 P": lambda p: 16 * p,
    "`fsdp2`, N = 8 | 16 P / N": lambda p: 16 * p / 8,
    "`fsdp2`, N = 16 | 16 P / N": lambda p: 16 * p / 16,
    "whole | 4 P": lambda p: 4 * p,
}
GIGABYTES_PER_SECOND = {"NVLink, W = 300 GB/s": 300, "8 × 400 Gb/s": 400, "with 400 Gb/s": 50, "with 100 Gb/s": 12.5}


def row(title):
    """The numbers of a table's row."""
    (line,) = re.findall(rf"^\|[^|]*{re.escape(title)} \|([\d., GB|]*\d[\d., GB|]*)\|$", PAGE, re.M)
    return [float(cell.removesuffix(" GB ").replace(",", "")) for cell in line.split("|")]


@pytest.mark.parametrize("title", [*SENT, *HELD])
def test_bytes_of_a_rank(title):
    expected = [(SENT | HELD)[title](size) / 1e9 for size in SIZES]
    assert row(title) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("title", GIGABYTES_PER_SECOND)
def test_tokens_behind_which_sending_hides(title):
    flops, rate = 400e12, GIGABYTES_PER_SECOND[title] * 1e9
    ddp = next(t for t in range(500, 70_000) if 4 * t / flops >= 8 / rate)  # per parameter: backward, and what is sent
    mixed = next(t for t in range(500, 70_000) if 4 * t / flops >= 6 / rate and 2 * t / flops >= 2 / rate)
    full = next(t for t in range(500, 70_000) if 4 * t / flops >= 8 / rate and 2 * t / flops >= 4 / rate)
    assert row(title) == pytest.approx([ddp, mixed, full], abs=1)
