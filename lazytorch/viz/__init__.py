"""Looking inside: what a tensor's pending work is, how it is fused, and why.

    x = torch.ones(4, 4)
    print(lazytorch.explain((x.exp() + 1).sum()))
    lazytorch.graph(x.exp()).save("graph.html")
    with lazytorch.profile() as seen:
        x.exp().sum().item()
    print(seen)

Explanations and pictures read what the engine plans; they change and compute nothing (except
copies between devices, on which a plan depends). A profile watches what is computed anyway.
"""

from __future__ import annotations

from lazytorch.viz.explain import Explanation, explain
from lazytorch.viz.graph import GraphView, graph
from lazytorch.viz.model import KernelInfo, Operation
from lazytorch.viz.profile import KernelTime, Profile, profile

__all__ = [
    "Explanation", "GraphView", "KernelInfo", "KernelTime", "Operation", "Profile", "explain",
    "graph", "profile",
]  # fmt: skip
