"""Every threshold of the scheduler. Changing one may change speed, never a result.

Numbers without a source were measured on a 2-core AVX-512 machine with Intel's CPU runtime;
``benchmarks/`` has the kernels they were measured on.
"""

from __future__ import annotations

# Additions' worth of arithmetic that is repeated rather than stored and loaded again.
RECOMPUTE_COST = 8
# The same for a value made of one array and of statistics of its rows: x normalized.
NORMALIZE_COST = 4
# A value repeated along axes of its readers (a row's statistic) this often is stored once.
EXPANSION = 4
# Caps of one kernel: compile time explodes when registers spill.
MAX_OPERATIONS = 160
MAX_LOADS = 24
MAX_DEPTH = 48
MAX_STORES = 12
# Arrays of one launch, where the device takes as many, and bodies side by side in it.
MAX_ARGUMENTS = 120
MAX_BODIES = 48
# Elements up to which independent elementwise bodies share a launch although they share no data.
SIDE_BY_SIDE_ELEMENTS = 1 << 21
# Elements of a row that are sorted at once (their pairs fill the local memory of the smallest
# devices), and so few of a row's first elements that they are kept in order while it is read.
SORTED_RUN = 4096
FIRST_FEW = 128
# Rows that a fused row group must have, unless it is small: rows are what runs in parallel.
MIN_GROUP_ROWS = 8
SMALL_GROUP_ELEMENTS = 1 << 14
# A reduction of at least this many elements into few results is cut in two.
SPLIT_ELEMENTS = 1 << 16
SPLIT_ROWS = 64
SPLIT_PARTS = 32
# Neighbouring columns that one work-item sums; of large arrays it had better read whole pages.
SMALL_PANEL_COLUMNS = 64
PANEL_COLUMNS = 1024
PANEL_ELEMENTS = 1 << 21
# Whether a leaf that nobody needs after the graph may give its memory to an output.
DONATE = True
# Sources of one concatenation in one kernel.
MAX_CONCATENATED = 16
# Values in a graph that is worth a plan without what only its first run computes.
BEGINNING_ROWS = 64
# Arrays of at least this many bytes are written past the caches: a copy of 64 MiB takes 1.7 instead
# of 2.5 ms (softmax 4096 x 1024, 16 MiB: 1.6 instead of 2.2 when other programs use the cache).
STREAM_BYTES = 16 << 20
# Temporaries up to which memory is also planned with the largest first (quadratic time).
LARGEST_FIRST_BLOCKS = 1000
# Depth and roots of a graph from which recognizing it is quicker than numbering it; how many
# signatures of graphs are remembered, how many graphs of each, and how many in vain before those of
# a signature are no longer remembered.
RECALLED_DEPTH = 6
RECALLED_SIGNATURES = 256
RECALLED_ALIKE = 4
RECALL_ATTEMPTS = 16
