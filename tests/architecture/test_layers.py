"""Each layer imports only what is below it; imports stand at the top of a file.

The same contract is checked by import-linter in CI; here without a package beyond the standard
library, so that it runs wherever the tests run.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "lazytorch"
# Lowest first. Modules on one line may not import each other, except where the line says so.
LAYERS = (
    ("dtypes", "errors", "version"),
    ("multiprocessing",),
    ("config", "__future__"),
    ("logs",),
    ("ir",),
    ("ops",),
    ("schedule",),
    ("runtime", "codegen"),
    ("engine",),
    ("tensor", "autograd"),
    ("functional",),
    ("streams",),
    ("accelerators", "amp"),
    (
        "accelerator", "cpu", "cuda", "mps", "xpu", "fft", "linalg", "masked", "signal",
        "special", "random",
    ),
    ("nn", "optim", "utils", "serialization"),
    ("func", "distributions"),
    ("compiler",),
    ("viz", "bench", "compat", "testing", "backends", "types"),
    ("cli",),
    ("__main__",),
)  # fmt: skip
TOGETHER = (
    {"tensor", "autograd"},
    {"nn", "optim", "utils", "serialization"},
    {"viz", "bench", "compat"},
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
FILES = sorted(PACKAGE.rglob("*.py"))
# Optional packages, which must stay unloaded until used.
LATE = {
    "pyopencl", "scipy", "networkx", "safetensors", "tqdm", "sklearn", "matplotlib", "graphviz",
    "torch",
}  # fmt: skip


def layer_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported_layers(tree: ast.AST) -> list[tuple[int, str]]:
    """(line, layer) of every import of the package; () for the package itself."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            module = node.module or ""
            names = (
                [f"lazytorch.{alias.name}" for alias in node.names]
                if module == "lazytorch"
                else [module]
            )
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "lazytorch" and len(parts) > 1 and parts[1] in LEVEL:
                found.append((node.lineno, parts[1]))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    layer = layer_of(path)
    if layer == "__init__":
        return
    assert layer in LEVEL, f"{layer} has no place in the layers of this test and pyproject.toml"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for line, other in imported_layers(tree):
        if other == layer:
            continue
        allowed = LEVEL[other] < LEVEL[layer] or any({other, layer} <= group for group in TOGETHER)
        assert allowed, f"{path.name}:{line}: {layer} must not import {other}"


def test_linter_and_test_know_the_same_layers() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = text.split("[[tool.importlinter.contracts]]")[1].split("\n]")[0]
    for name in LEVEL:
        assert f"lazytorch.{name}" in block, f"{name} is missing in pyproject.toml"


def late_imports(tree: ast.Module) -> list[tuple[int, str]]:
    """Imports inside functions."""
    found = []
    for function in ast.walk(tree):
        if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Import):
                found += [(node.lineno, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                found.append((node.lineno, node.module or ""))
    return found


# Function-level imports of the package itself that stand for a reason: (file, module).
ALLOWED_LATE = {
    ("ir/definition.py", "lazytorch.ir"),  # records are unpickled by name from the registry
    ("viz/graph.py", "lazytorch.viz.page"),  # the page needs networkx, which loads slowly
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_stand_at_the_top(path: Path) -> None:
    place = path.relative_to(PACKAGE).as_posix()
    for line, name in late_imports(ast.parse(path.read_text(encoding="utf-8"))):
        package = name.split(".")[0]
        if package == "lazytorch":
            assert (place, name) in ALLOWED_LATE, f"{place}:{line}: {name} belongs at the top"


def test_importing_touches_no_optional_package() -> None:
    import subprocess
    import sys

    script = (
        "import sys, lazytorch; "
        f"loaded = sorted(set(sys.modules) & set({sorted(LATE)!r})); "
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
