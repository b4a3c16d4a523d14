"""Looking inside: what a tensor's pending work is, how it is fused, and why.

    >>> x = torch.ones(4, 4)
    >>> print(lazytorch.explain((x.exp() + 1).sum()))
    >>> lazytorch.graph(x.exp()).save("graph.html")

Reads what the engine plans; changes and computes nothing (except copies between devices, on
which a plan depends).
"""

from __future__ import annotations

from lazytorch.viz.explain import Explanation, explain
from lazytorch.viz.graph import GraphView, graph
from lazytorch.viz.model import KernelInfo, Operation

__all__ = ["Explanation", "GraphView", "KernelInfo", "Operation", "explain", "graph"]
