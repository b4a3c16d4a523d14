"""Small programs run with one library and with another."""

from __future__ import annotations

import ast
import copy
import pickle
import warnings
from typing import Any

import numpy as np

from lazytorch import Tensor, engine
from lazytorch.tensor.storage import node_of


def compute(*values: Any) -> None:
    """Compute the tensors among the values in one graph, before each is looked at.

    Looking at them one by one would compile a program for each, and compiling is what most of
    the tests' time goes into.
    """
    engine.realize([node_of(value) for value in values if isinstance(value, Tensor)])


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
