"""The committed table is true, in a sample that changes with the page, and only grows."""

from __future__ import annotations

import random
import re
import zlib

import pytest

pytest.importorskip("torch")
pytest.importorskip("expecttest")

from lazytorch.runtime import available_devices
from tests.conformance import table

# Raise it when the table grows; never lower it.
AGREEING = 5774
# Combinations run again: many on the device that compiles nothing, few on the other.
SAMPLED = {"numpy": 100, "cpu": 10}


def test_the_table_does_not_shrink() -> None:
    verdicts = [verdict for row in table.read().values() for verdict in row.values()]
    agreeing = verdicts.count("pass")
    assert agreeing >= AGREEING
    undecided = verdicts.count("none") + verdicts.count("unknown")
    told = re.search(r"\*\*(\d+) of (\d+)\*\*", table.PAGE.read_text(encoding="utf-8"))
    assert told is not None
    assert (int(told[1]), int(told[2])) == (agreeing, len(verdicts) - undecided)


def test_the_page_is_what_its_rows_say() -> None:
    assert table.page(table.read()) == table.PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("device", table.DEVICES)
def test_what_agreed_agrees(device: str) -> None:
    if device == "cpu" and len(available_devices()) == 1:
        pytest.skip("without OpenCL the default device is NumPy's")
    seed = zlib.crc32(table.PAGE.read_bytes())
    known = [
        (name, dtype)
        for name, row in table.read().items()
        for (place, dtype), verdict in row.items()
        if place == device and verdict == "pass"
    ]
    found = table.entries_by_name()
    for name, dtype in random.Random(seed).sample(known, min(SAMPLED[device], len(known))):
        verdict = table.run(found[name], dtype, device, most=1)
        assert verdict in ("pass", "none"), f"{name} {device} {dtype}: {verdict}"
