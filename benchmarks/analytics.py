"""How long the analyses of `fl.analytics` take, and how much memory: synthetic clients that are made when they are read.

    python benchmarks/analytics.py [--clients 1000 10000 --repeats 3 --out results.json]

A client has up to 39 numbers, or 30 words of a Zipf law. Each analysis runs once before it is timed, to compile and to calibrate
its noise. Memory is the peak of the process so far, imports and compiled programs among it.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import fedloom as fl

PRIVATE = {"epsilon": 2.0, "delta": 1e-7, "seed": 1}


class Made(Mapping[str, Any]):
    """Clients whose values are drawn when they are looked up."""

    def __init__(self, clients: int, make: Callable[[np.random.Generator], Any]):
        self._clients, self._make = clients, make

    def __getitem__(self, client: str) -> Any:
        return self._make(np.random.default_rng(int(client)))

    def __iter__(self) -> Iterator[str]:
        return map(str, range(self._clients))

    def __len__(self) -> int:
        return self._clients


def words_of(rng: np.random.Generator) -> list[str]:
    """Up to 30 words, of 1,500."""
    return [f"word{number}" for number in rng.zipf(1.3, size=30) if number < 1500]


def analyses(clients: int) -> dict[str, Callable[[], Any]]:
    """By name, ready to run."""
    a = fl.analytics
    numbers = Made(clients, lambda rng: rng.normal(100, 3, size=rng.integers(0, 40)))
    words, texts = Made(clients, words_of), Made(clients, lambda rng: [" ".join(words_of(rng))])
    tree = {"max_per_client": 40, **PRIVATE}
    return {
        "statistics": lambda: a.statistics(numbers),
        "quantiles, 3": lambda: a.quantiles(numbers, [0.1, 0.5, 0.9]),
        "histogram, 40 bins": lambda: a.histogram(numbers, np.linspace(80, 120, 41)),
        "hierarchical_histogram, 1024 bins": lambda: a.hierarchical_histogram(numbers, 80, 120, 1024),
        "hierarchical_histogram, 1024 bins, noise from the server": lambda: a.hierarchical_histogram(numbers, 80, 120, 1024, **tree),
        "hierarchical_histogram, 1024 bins, noise from the clients": lambda: a.hierarchical_histogram(
            numbers, 80, 120, 1024, noise_from="clients", **tree
        ),
        "count_distinct": lambda: a.count_distinct(words),
        "heavy_hitters, capacity 2000": lambda: a.heavy_hitters(words, capacity=2000),
        "vocabulary, capacity 10000": lambda: a.vocabulary(texts, "words"),
        "vocabulary, capacity 10000, private": lambda: a.vocabulary(texts, "words", max_per_client=20, **PRIVATE),
    }


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("analytics.json"))
    arguments = parser.parse_args()
    results = []
    for analyse in analyses(100).values():
        analyse()
    for clients in arguments.clients:
        for name, analyse in analyses(clients).items():
            seconds = []
            for _ in range(arguments.repeats):
                start = time.perf_counter()
                analyse()
                seconds.append(time.perf_counter() - start)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            results.append({"analysis": name, "clients": clients, "seconds": [round(s, 3) for s in seconds], "peak_mib": round(peak)})
            print(results[-1], flush=True)
    arguments.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
