"""Functions of one example applied to batches (``vmap``): how it is done, and why so.

The function runs *once*, on symbolic tensors of the shape that one example has: Python code that
asks for shapes, views and in-place writes see what they would see in a loop over the batch. What
it records are ordinary nodes above ``example`` nodes (``ops.examples``). Afterwards the nodes
are rewritten with the batch as one more first axis, by one rule for each *kind* of operation
(``rules``, ``layers``).

The other way, a rule for each function of the library, was not taken: there are about 85
operations of 12 kinds below more than 900 functions, a composite needs no rule at all, and a
function's own Python (shapes, views, gradient rules, modules) need not know of it. The result is
an ordinary graph, so fusion, plans and ``compile`` treat it like any other, and the number of
kernels does not depend on the size of the batch.

Gradients: entries that the function writes on the tape speak of one example. Outside there is
one entry for the whole call, whose backward runs the inner tape on examples of the gradients and
rewrites what comes out (``autograd.batching``).

``levels`` knows which batches a thread is working on, ``transform`` rewrites.
"""
