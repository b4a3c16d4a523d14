"""docs/conformance.md: which operators of PyTorch's database give PyTorch's answers here.

``python -m tests.conformance.table`` runs the samples on the default and the NumPy device and
writes the page; ``--only REGEX``, ``--devices`` and ``--kinds`` run a part and change only it.
Needs PyTorch and expecttest. The page holds names, marks and reasons, nothing of the machine it
was made on.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import re
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tqdm import tqdm

from tests.conformance.database import DTYPES, Entry, entries

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"
DEVICES = ("cpu", "numpy")
# Gradients are compared in float64, where nothing is compiled for each sample.
DERIVATIVES = (("numpy", "gradient"), ("numpy", "second"))
COLUMNS = (*((device, dtype) for device in DEVICES for dtype in DTYPES), *DERIVATIVES)
SAMPLES = 2
_MARKS = {"pass": "+", "fail": "-", "none": " ", "unknown": "?"}
_ROW = re.compile(r"^\| `(?P<name>[^`]+)` \| (?P<marks>.*) \|$")
_COMPLAINT = re.compile(r"^- `(?P<name>[^`]+)` (?P<device>\w+) (?P<dtype>\w+): (?P<text>.*)$")
# Why something is not as in PyTorch on purpose, by what a complaint says or whom it is about.
REASONS: tuple[tuple[str, str], ...] = (
    (r"^Tensor\.chalf", "complex numbers of two float16 are refused: complex64 is there"),
    (r"special\.bessel_j0|special\.bessel_y", "SciPy's values, nearer to the truth near zeros"),
    (r"^kthvalue", "the place of another one of several equal elements, which PyTorch leaves open"),
    (r"^logcumsumexp", "imaginary parts that differ by whole turns: logarithms of one number"),
    (r"^as_strided_scatter", "PyTorch's gradient reaches the elements that were replaced"),
    (r"^masked\.(logaddexp|logsumexp)", "0 where all is masked: PyTorch's second order is NaN"),
    (
        r"^nn\.functional\.(multi_head_attention_forward|scaled_dot_product_attention): Dis",
        "samples with dropout: other elements are drawn",
    ),
    (r"^(std|var)_mean.*: Disagreement: .* nan apart", "of no elements: NaN here, 0 in PyTorch"),
    (
        r"^(lu_unpack|narrow|narrow_copy|unbind_copy): RuntimeError: element 0",
        "gradients of no elements are not on the tape",
    ),
    (r"sparse=True", "sparse gradients are refused: the dense one has the same values"),
)

# Verdicts by (device, dtype): 'pass', 'none' (PyTorch has no sample) or a complaint.
Verdicts = dict[tuple[str, str], str]
Results = dict[str, Verdicts]


def run(entry: Entry, dtype: str, device: str, most: int = SAMPLES) -> str:
    """'pass', 'none' (PyTorch has no sample) or the first complaint."""
    from tests.conformance.compare import check
    from tests.conformance.gradients import ORDERS, check_gradients

    done = 0
    order = ORDERS.get(dtype)
    try:
        for sample in entry.samples("float64" if order else dtype, most):
            if order is None:
                done += check(entry, sample, device)
            elif entry.has_gradients:
                done += check_gradients(entry, sample, device, order)
    except Exception as error:
        text = re.sub(r"\s+", " ", f"{type(error).__name__}: {error}")[:120]
        return re.sub(r"(?<=[\s(])/\S+", "(path)", text)
    return "pass" if done else "none"


def read() -> Results:
    """What the committed page says; nothing before there is one."""
    known: Results = {}
    if not PAGE.exists():
        return known
    meaning = {mark.strip(): word for word, mark in _MARKS.items()}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        row, complaint = _ROW.match(line), _COMPLAINT.match(line)
        if row:
            marks = (meaning[mark.strip()] for mark in row["marks"].split("|"))
            known[row["name"]] = dict(zip(COLUMNS, marks))
        elif complaint:
            column = (complaint["device"], complaint["dtype"])
            known[complaint["name"]][column] = complaint["text"]
    return known


def _reason(name: str, text: str) -> str:
    return next((why for what, why in REASONS if re.search(what, f"{name}: {text}")), text)


def page(results: Results) -> str:
    """The text of the page."""
    values = [value for row in results.values() for value in row.values()]
    total = len(values) - values.count("none") - values.count("unknown")
    lines = [
        "# Conformance",
        "",
        "Which operators of the database that PyTorch is tested with give PyTorch's answers, by",
        f"device and dtype ({SAMPLES} samples each): `+` they do, `-` they do not (reasons stand",
        "below), blank where PyTorch has no such kernel, `?` not run yet. Random results are",
        "compared by shape and dtype, as are bases of subspaces. `gradient` and `second` are",
        "gradients and gradients of gradients in float64 against PyTorch's, blank where PyTorch",
        "has none or the result is random. Written by",
        "`python -m tests.conformance.table`; a test runs a part of it again, another with every",
        "change of the page, and sees to it that nothing is lost.",
        "",
        f"**{values.count('pass')} of {total}** combinations agree.",
        "",
        "| operator | " + " | ".join(f"{device} {dtype}" for device, dtype in COLUMNS) + " |",
        "|---|" + ":-:|" * len(COLUMNS),
    ]
    complaints = []
    for name in sorted(results):
        row = results[name]
        marks = (_MARKS.get(row.get(column, "unknown"), "-") for column in COLUMNS)
        lines.append(f"| `{name}` | {' | '.join(marks)} |")
        for device, dtype in COLUMNS:
            text = row.get((device, dtype), "unknown")
            if text not in ("pass", "none", "unknown"):
                complaints.append(f"- `{name}` {device} {dtype}: {_reason(name, text)}")
    return "\n".join([*lines, "", "## What does not agree", "", *complaints]) + "\n"


@functools.cache
def entries_by_name() -> dict[str, Entry]:
    """The operators by their names in the table."""
    return {entry.name: entry for entry in entries()}


def _answers(name: str, devices: Sequence[str], kinds: Sequence[str]) -> tuple[str, Verdicts]:
    # The database's records cannot be sent to another process; names can.
    columns = [column for column in COLUMNS if column[0] in devices and column[1] in kinds]
    entry = entries_by_name()[name]
    return name, {(device, dtype): run(entry, dtype, device) for device, dtype in columns}


def main() -> None:
    """Run the database and write the page."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--only", default="", help="a regular expression of names")
    parser.add_argument("--devices", default=",".join(DEVICES))
    every = dict.fromkeys(kind for _, kind in COLUMNS)
    parser.add_argument("--kinds", default=",".join(every), help="dtypes, gradient, second")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    names = [name for name in entries_by_name() if re.search(options.only, name)]
    results = read()
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
        answers = functools.partial(
            _answers, devices=options.devices.split(","), kinds=options.kinds.split(",")
        )
        for name, found in tqdm(pool.map(answers, names), total=len(names)):
            results.setdefault(name, {}).update(found)
            for (device, dtype), verdict in found.items():
                if verdict not in ("pass", "none"):
                    tqdm.write(f"{name} {device} {dtype}: {verdict}")
    PAGE.write_text(page(results), encoding="utf-8")


if __name__ == "__main__":
    main()
