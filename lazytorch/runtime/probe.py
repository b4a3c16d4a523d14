"""Whether a driver can be trusted: canary kernels in a subprocess, once for each device.

A verdict is kept on disk under the device, its driver and the canaries themselves. A wrong answer
that concerns one capability masks it; any other wrong answer, a crash or a hang disables the
device.

The probe takes half a second, a fifth of what a first training step may take. For driver versions
this release was tested with, it therefore runs beside the first computation, and its verdict
counts from the moment it is there. Every other driver is probed before it is used.
"""

from __future__ import annotations

import atexit
import json
import subprocess
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path

from lazytorch import config, logs
from lazytorch.errors import LazytorchWarning
from lazytorch.runtime import canary, discovery
from lazytorch.runtime.cache import FileCache
from lazytorch.runtime.discovery import Candidate

TIMEOUT = 60.0
# (platform, start of the driver version) this release was tested with.
TESTED = (("Intel(R) OpenCL", "2026.22."),)
_cache = FileCache("probe")
_verdicts: dict[tuple[str, ...], Verdict] = {}
_lock = threading.Lock()


@dataclass(frozen=True)
class Verdict:
    """``state``: ok, broken, untested (switched off or impossible) or pending (still running)."""

    state: str
    reason: str = ""
    masked: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        return self.state != "broken"


def verdict(item: Candidate) -> Verdict:
    """What is known about a device, probing it now or in the background when it is new."""
    if not config.get("PROBE"):
        return Verdict("untested", "LAZYTORCH_PROBE=0")
    with _lock:
        found = _verdicts.get(item.identity) or _stored(item)
        if found is None:
            if _is_tested(item):
                found = _verdicts[item.identity] = Verdict("pending")
                _probe_in_background(item)
            else:
                found = _finish(item, *_run(item))
        _verdicts[item.identity] = found
        return found


def recheck(item: Candidate) -> tuple[Verdict, dict[str, str]]:
    """Probe again whatever is stored; the verdict and each canary's result."""
    output, ending = _run(item)
    return _finish(item, output, ending), _results(output)


def known(item: Candidate) -> Verdict:
    """What is known about a device without probing it."""
    found = _verdicts.get(item.identity) or _stored(item)
    return found or Verdict("untested", "not used yet" if config.get("PROBE") else "")


def known_broken(item: Candidate) -> bool:
    """Whether a device has failed; never starts a probe."""
    if not config.get("PROBE"):
        return False
    return not known(item).usable


def judge(results: dict[str, str], ending: str) -> Verdict:
    """A verdict from what the canaries printed and how their process ended."""
    if results.get("done") != "ok":
        last = next((name for name, state in reversed(results.items()) if state == "start"), "")
        if last in ("", "import") and not ending.startswith(("signal", "no answer")):
            return Verdict("untested", f"the probe could not run: {ending}")
        return Verdict("broken", f"{ending} in canary {last or 'start'!r}")
    failed = {name: state for name, state in results.items() if state != "ok"}
    fatal = {name: state for name, state in failed.items() if name not in canary.MASKABLE}
    if fatal:
        name, state = next(iter(fatal.items()))
        return Verdict("broken", f"canary {name!r}: {state}", tuple(failed))
    return Verdict(
        "ok", "; ".join(f"{name}: {state}" for name, state in failed.items()), tuple(failed)
    )


def _is_tested(item: Candidate) -> bool:
    return any(
        item.platform_name == platform and item.driver_version.startswith(version)
        for platform, version in TESTED
    )


def _key(item: Candidate) -> str:
    return FileCache.key(
        "verdict", Path(canary.__file__).read_text(encoding="utf-8"), *item.identity
    )


def _stored(item: Candidate) -> Verdict | None:
    content = _cache.read(_key(item))
    if content is None:
        return None
    try:
        state, reason, masked = json.loads(content)
        return Verdict(str(state), str(reason), tuple(map(str, masked)))
    except (ValueError, TypeError):
        _cache.remove(_key(item))
        return None


def _finish(item: Candidate, output: str, ending: str) -> Verdict:
    result = judge(_results(output), ending)
    logs.write("build", lambda: f"probe of {item.device_name}: {result}")
    _verdicts[item.identity] = result
    if result.state != "untested":
        payload = json.dumps([result.state, result.reason, list(result.masked)])
        _cache.write(_key(item), payload.encode())
    return result


def _results(output: str) -> dict[str, str]:
    results: dict[str, str] = {}
    for line in output.splitlines():
        try:
            name, state = json.loads(line)
        except (ValueError, TypeError):
            continue  # a driver that prints
        results[str(name)] = str(state)
    return results


# the subprocess


def _run(item: Candidate) -> tuple[str, str]:
    """What the canaries printed, and how they ended: 'exit status 1', 'signal 11', 'no answer'."""
    try:
        child = _start(item)
    except OSError as error:
        return "", str(error)
    return _collect(child)


def _start(item: Candidate) -> subprocess.Popen[str]:
    return subprocess.Popen(
        discovery.child_command(canary.__file__, item),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=discovery.child_environment(),
    )


def _collect(child: subprocess.Popen[str]) -> tuple[str, str]:
    try:
        output, errors = child.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        child.kill()
        output, _ = child.communicate()
        return output, f"no answer in {TIMEOUT:.0f} s"
    if child.returncode < 0:
        return output, f"signal {-child.returncode}"
    last = errors.strip().splitlines()[-1:] if child.returncode else []
    return output, ": ".join([f"exit status {child.returncode}", *last])


def _probe_in_background(item: Candidate) -> None:
    try:
        child = _start(item)
    except OSError as error:
        complaint = f"no probe of {item.device_name}: {error}"
        logs.write("build", lambda: complaint)
        return
    stopped = threading.Event()

    def wait() -> None:
        output, ending = _collect(child)
        if stopped.is_set():
            return
        result = _finish(item, output, ending)
        if not result.usable or result.masked:
            warnings.warn(
                f"LT004: OpenCL device {item.device_name} ({item.platform_name} "
                f"{item.driver_version}) failed its probe: {result.reason}. Results of this "
                "process may be wrong; the next one will not use it",
                LazytorchWarning,
                stacklevel=2,
            )

    thread = threading.Thread(target=wait, name="lazytorch-probe", daemon=True)
    thread.start()

    def stop() -> None:
        # A process shorter than its probe does not wait for it; the next one probes again.
        if child.poll() is None:
            stopped.set()
            child.kill()
        thread.join()

    atexit.register(stop)
