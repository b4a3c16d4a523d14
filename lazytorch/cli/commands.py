"""What each command of ``python -m lazytorch`` prints. One function a command."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from lazytorch import config as settings
from lazytorch.runtime.cache import default_folder
from lazytorch.runtime.report import devices_report, format_report


def devices(arguments: argparse.Namespace) -> int:
    """Drivers and devices; 1 when no OpenCL device can be used, or a probed one failed."""
    report = devices_report(check=arguments.check)
    print(_json(report) if arguments.json else format_report(report))
    usable = [device for device in report["devices"] if device["name"] != "numpy"]
    failed = [device for device in usable if device["state"] == "broken"]
    return int(bool(report["advice"]) or (arguments.check and bool(failed)))


def config(arguments: argparse.Namespace) -> int:
    """The table of settings, or one of them."""
    rows = settings.table()
    if arguments.name is not None:
        wanted = arguments.name.upper().removeprefix(settings.PREFIX)
        rows = [row for row in rows if row.name == wanted]
        if not rows:
            known = ", ".join(row.name for row in settings.table())
            print(f"no setting is called {arguments.name!r}; known: {known}", file=sys.stderr)
            return 1
    try:
        values = {row.name: settings.get(row.name) for row in rows}
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    if arguments.json:
        print(_json(values))
    elif arguments.name is not None:
        print(f"{rows[0].name} = {values[rows[0].name]!r}")
    else:
        width = max(len(row.name) for row in rows) + len(settings.PREFIX)
        for row in rows:
            origin = "set" if settings.PREFIX + row.name in os.environ else "default"
            variable = settings.PREFIX + row.name
            print(f"{variable:{width}}  {values[row.name]!s:12} {origin:8} {row.help}")
    return 0


def cache(arguments: argparse.Namespace) -> int:
    """Where compiled programs are kept, how many there are, and a way to delete them."""
    folder = default_folder()
    files = _cache_files(folder)
    report: dict[str, Any] = {
        "folder": str(folder),
        "enabled": bool(settings.get("CACHE")),
        "limit": settings.get("CACHE_LIMIT"),
        "files": len(files),
        "bytes": sum(path.stat().st_size for path in files),
    }
    failures = 0
    if arguments.clear:
        for path in files:
            try:
                path.unlink()
            except OSError as error:
                failures += 1
                print(f"cannot delete {path}: {error}", file=sys.stderr)
        report["deleted"] = len(files) - failures
    if arguments.json:
        print(_json(report))
    else:
        state = "in use" if report["enabled"] else "switched off (LAZYTORCH_CACHE=0)"
        print(f"{report['folder']}: {state}")
        print(
            f"{report['files']} files, {report['bytes'] / 2**20:.1f} MiB "
            f"of at most {report['limit'] / 2**20:.0f} MiB"
        )
        if arguments.clear:
            print(f"deleted {report['deleted']} files")
    return int(failures > 0)


def _cache_files(folder: Path) -> list[Path]:
    """The files that lazytorch wrote: in the folders it makes, never deeper or elsewhere."""
    kinds = ("programs", "probe", "drivers", "tuned")
    return [
        path
        for kind in kinds
        if (folder / kind).is_dir()
        for path in sorted((folder / kind).iterdir())
        if path.is_file() and not path.is_symlink()
    ]


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, default=str)
