"""What a fresh process pays: importing, and its first training step.

    python benchmarks/startup.py [--repeats 3]

Every figure is from processes of its own. *Cold* has empty caches (compiled programs, driver
verdicts), *warm* those of the process before.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]

IMPORT = """
import json, sys, time
start = time.perf_counter()
import lazytorch
took = time.perf_counter() - start
heavy = [n for n in ("pyopencl", "scipy", "networkx", "torch") if n in sys.modules]
print(json.dumps({"import": took, "loaded": heavy}))
"""

STEP = """
import json, time
begin = time.perf_counter()
import numpy
import lazytorch as torch
from lazytorch import nn, optim
imported = time.perf_counter()
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(),
                      nn.Linear(512, 10))
optimizer = optim.Adam(model.parameters(), lr=1e-3)
x = torch.randn(128, 784)
y = torch.randint(0, 10, (128,))
def step():
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss.item()
times = []
for _ in range(4):
    start = time.perf_counter()
    step()
    times.append(time.perf_counter() - start)
print(json.dumps({"import": imported - begin, "first": times[0], "second": times[1],
                  "fourth": times[3], "whole": time.perf_counter() - imported,
                  "built": torch.stats()["programs_built"]}))
"""
NUMPY = """
import json, time
start = time.perf_counter()
import numpy, ml_dtypes
print(json.dumps({"import": time.perf_counter() - start}))
"""


def run(script: str, cache: str) -> dict[str, float]:
    """The figures that a fresh interpreter prints."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    environment = {**os.environ, "LAZYTORCH_CACHE_DIR": cache, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True
    )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def best(results: list[dict[str, float]], key: str) -> float:
    return min(result[key] for result in results)


def line(name: str, seconds: float, wanted: float | None = None) -> None:
    goal = "" if wanted is None else f"  wanted {wanted:.2f} {'' if seconds <= wanted else '!'}"
    print(f"{name:44} {seconds:7.3f} s{goal}", flush=True)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    count = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        numpy = best([run(NUMPY, folder) for _ in range(count)], "import")
        imports = [run(IMPORT, folder) for _ in range(count)]
        line("import numpy, ml_dtypes", numpy)
        line("import lazytorch", best(imports, "import"), 0.25)
        loaded = imports[0]["loaded"]
        print(f"{'  loaded with it':44} {loaded or 'nothing heavy'}")
    cold = []
    for _ in range(count):
        with tempfile.TemporaryDirectory() as folder:
            cold.append(run(STEP, folder))
            warm_after = [run(STEP, folder) for _ in range(count)]
    whole = [{"all": r["import"] + r["first"]} for r in cold]
    line("MLP, cold: import and first training step", best(whole, "all"), 2.5)
    line("MLP, cold: first training step", best(cold, "first"))
    line("MLP, cold: second training step", best(cold, "second"))
    line("MLP, warm: first training step", best(warm_after, "first"), 0.6)
    line("MLP, warm: second training step", best(warm_after, "second"))
    line("MLP, warm: fourth training step", best(warm_after, "fourth"))
    print(f"programs built: cold {cold[0]['built']:.0f}, warm {warm_after[0]['built']:.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
