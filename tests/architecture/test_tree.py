"""What holds for the whole repository: records, settings, files, texts."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from lazytorch import config
from lazytorch.ir import registry
from lazytorch.ir.definition import KINDS, OpDef
from lazytorch.logs import CHANNELS

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "lazytorch"
RECORDS = registry.all_records()
# Limits, not aims: those are 400 and 50.
FILE_LINES = 600
FUNCTION_LINES = 90


def tracked_files() -> list[Path]:
    """Files of the repository, or of the package where there is no git."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, timeout=30
        ).stdout.decode()
    except (OSError, subprocess.SubprocessError):
        return sorted(PACKAGE.rglob("*.py"))
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


# Records ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", RECORDS, ids=lambda op: op.name)
def test_a_record_is_complete(op: OpDef) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]*", op.name)
    assert op.kind in KINDS
    assert op.cost >= 0
    assert registry.lookup(op.name) is op
    if op.kind == "map" and op.name not in ("cast", "bitcast"):
        assert op.c, "a map needs C text"
        assert set(op.c) <= set("fiubc*")
        for category, text in {**op.c, **op.c_vector}.items():
            operands = {int(n) for n in re.findall(r"\{(\d)\}", text)}
            assert operands <= set(range(op.arity)), f"{category}: {text}"
    if op.kind in ("reduce", "scan"):
        assert op.combine is not None and op.identity is not None
    if op.kind == "move":
        assert op.route is not None, "a move needs a route"
        assert op.gradient is not None, "a move needs a gradient"


def test_an_elementwise_operation_stands_in_one_file() -> None:
    """The name of a record's operation is decided on nowhere above ops."""
    names = [op.name for op in RECORDS if op.kind == "map" and len(op.name) > 3]
    pattern = re.compile(r"""op\.name\s*(==|in)\s*[("']""")
    for folder in ("schedule", "codegen", "runtime"):
        for path in (PACKAGE / folder).rglob("*.py"):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                if pattern.search(line):
                    assert not any(f'"{name}"' in line for name in names), f"{path}:{number}"


# Settings ---------------------------------------------------------------------------------------


def test_every_setting_is_documented() -> None:
    documents = "\n".join(
        path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))
    )
    for row in config.table():
        assert (row.help and row.help[0].islower()) or row.help[0].isdigit(), row
        assert f"LAZYTORCH_{row.name}" in documents, f"docs/ says nothing of {row.name}"


def test_every_setting_is_used() -> None:
    text = "\n".join(
        path.read_text(encoding="utf-8")
        for path in PACKAGE.rglob("*.py")
        if path.name != "config.py"
    )
    for row in config.table():
        assert f'"{row.name}"' in text or f"{row.name}=" in text, f"nobody reads {row.name}"


def test_only_config_reads_settings_from_the_environment() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.name != "config.py":
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"environ[^\n]*[\"']LAZYTORCH_", text), path


def test_log_channels_are_documented() -> None:
    (row,) = (row for row in config.table() if row.name == "LOG")
    used = set()
    for path in PACKAGE.rglob("*.py"):
        used |= set(re.findall(r"logs?\.(?:write|enabled)\(\s*\"(\w+)\"", path.read_text()))
    assert used <= set(CHANNELS)
    assert all(channel in row.help for channel in used), used


def test_every_warning_code_is_documented() -> None:
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    codes = set()
    for path in PACKAGE.rglob("*.py"):
        codes |= set(re.findall(r"\bLT\d{3}\b", path.read_text(encoding="utf-8")))
    assert codes
    for code in codes:
        assert f"## {code}" in text, f"docs/errors.md lacks {code}"


# Files ------------------------------------------------------------------------------------------


def test_no_paths_or_hosts_of_any_machine() -> None:
    """Nothing in the repository names the machine or the registry it was made with."""
    # Split, so that this file does not match itself.
    machine = [r"/ro" + r"ot/", r"/ho" + r"me/\w+/", r"/wo" + r"rk/", r"C:\\" + r"Users"]
    hosts = [r"index[-_]" + r"url", r"find[-_]" + r"links", r"file:/" + r"/"]
    pattern = re.compile("|".join(machine + hosts))
    for path in tracked_files():
        if path.suffix in (".png", ".npz", ".pt", ".gz"):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            assert not pattern.search(line), f"{path.relative_to(ROOT)}:{number}: {line.strip()}"


PYTHON = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_are_readable_in_one_sitting(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= FILE_LINES, f"{len(text.splitlines())} lines"
    tree = ast.parse(text)
    if text.strip():
        assert ast.get_docstring(tree), "a module says what it knows"
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            documented = len((ast.get_docstring(node) or "").splitlines())
            assert length - documented <= FUNCTION_LINES, f"{node.name}: {length} lines"


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_functions_are_typed(path: Path) -> None:
    missing = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            untyped = [
                a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")
            ]
            if untyped or node.returns is None:
                missing.append(f"{node.name} (line {node.lineno})")
    assert not missing, missing


def test_documents_name_files_that_exist() -> None:
    for document in [*sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("*.md"))]:
        text = document.read_text(encoding="utf-8")
        for name in re.findall(r"`((?:[\w.]+/)*[\w.]+(?:\.py|/))`", text):
            places = (ROOT, PACKAGE, PACKAGE / "ir", PACKAGE / "schedule")
            found = any((place / name).exists() for place in places)
            assert found or name in ("script.py", "train.py"), f"{document.name}: {name}"
        for link in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (document.parent / link).exists(), f"{document.name}: {link}"
