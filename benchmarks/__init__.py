"""Measurements: `python -m benchmarks run` compares fedloom with its peers; the other scripts stand alone.

Modules that workers import (`_turns`, `_workload`) need nothing but NumPy, since they also run in the peers' environments.
"""
