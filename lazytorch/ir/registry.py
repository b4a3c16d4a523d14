"""All operation records by name: filled by ``lazytorch.ops``, read when plans are unpickled."""

from __future__ import annotations

from lazytorch.ir.definition import OpDef

_records: dict[str, OpDef] = {}


def register(record: OpDef) -> OpDef:
    """Add a record; a second one of the same name is a bug."""
    if record.name in _records:
        raise ValueError(f"operation {record.name!r} is already defined")
    _records[record.name] = record
    return record


def lookup(name: str) -> OpDef:
    """The record called ``name``."""
    return _records[name]


def all_records() -> list[OpDef]:
    """Every record, in the order of definition."""
    return list(_records.values())
