"""Small programs run with one library and with another."""

from __future__ import annotations

import ast
import copy
import pickle
import warnings
from typing import Any

import numpy as np


def outcome(library: Any, program: str) -> str:
    """The text of the program's last value, or the class of the error it ends in."""
    names = {"torch": library, "np": np, "copy": copy, "pickle": pickle}
    body = ast.parse(program).body
    last: Any = body.pop()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(compile(ast.Module(body, []), "program", "exec"), names)
            return repr(eval(compile(ast.Expression(last.value), "program", "eval"), names))
    except Exception as error:
        return type(error).__name__
