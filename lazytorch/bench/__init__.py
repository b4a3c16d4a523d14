"""Speed, measured fairly: ``python -m lazytorch bench``.

Named workloads run on any devices and on the libraries people would otherwise use, each in its own
process, in turns, in one run; every output is compared before its time counts. ``catalog`` lists
the workloads, ``programs`` has their code, ``peers`` who takes part, ``contest`` the run.
"""
