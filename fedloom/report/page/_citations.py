"""Which papers a run builds on, by the names in its settings.

Free to change: all of it. A new method adds a line here, and its paper to `_references`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ._references import REFERENCES, Reference

_ALGORITHMS: dict[str, tuple[str, ...]] = {
    "agnostic": ("ro", "mohri"),
    "apfl": ("deng",),
    "ditto": ("li2021",),
    "fedadagrad": ("reddi",),
    "fedadam": ("reddi",),
    "fedavg": ("mcmahan2017",),
    "fedavgm": ("hsu",),
    "feddyn": ("acar",),
    "fednova": ("wang2020",),
    "fedprox": ("li2020",),
    "fedrecon": ("singhal",),
    "fedsgd": ("mcmahan2017",),
    "fedyogi": ("reddi",),
    "hypcluster": ("mansour", "ghosh"),
    "kmeans": ("sculley",),
    "mime": ("mime",),
    "mimelite": ("mime",),
    "personalization": ("wang2019",),
    "qffl": ("li2020fair",),
    "scaffold": ("karimireddy2020",),
}
_AGGREGATORS: dict[str, tuple[str, ...]] = {
    "dp_gaussian": ("mcmahan2018",),
    "dp_gaussian_adaptive": ("mcmahan2018", "andrew"),
    "dp_gaussian_fixed": ("mcmahan2018",),
    "dp_matrix": ("choquette",),
    "dp_tree": ("kairouz",),
    "gaussian_noise": ("mcmahan2018",),
    "geometric_median": ("pillutla",),
    "krum": ("blanchard",),
    "low_rank": ("vogels",),
    "median": ("yin",),
    "multi_krum": ("blanchard",),
    "quantile": ("andrew",),
    "quantize": ("suresh",),
    "secure_encoding": ("bonawitz2017", "bonawitz2019"),
    "top_k": ("stich", "karimireddy2019"),
    "trimmed_mean": ("yin",),
}
_OPTIMIZERS: dict[str, tuple[str, ...]] = {
    "adafactor": ("shazeer",),
    "adagrad": ("duchi",),
    "adam": ("kingma",),
    "adamw": ("loshchilov",),
    "yogi": ("zaheer",),
}
_SERVER_OPTIMIZERS: dict[str, tuple[str, ...]] = {name: ("reddi",) for name in ("adagrad", "adam", "yogi")} | {"momentum": ("hsu",)}
_OF_SETTINGS: dict[str, tuple[str, Mapping[str, tuple[str, ...]]]] = {
    "algorithm": ("algorithm", _ALGORITHMS),
    "aggregator": ("aggregation", _AGGREGATORS),
    "client_optimizer": ("client optimizer", _OPTIMIZERS),
    "server_optimizer": ("server optimizer", _SERVER_OPTIMIZERS),
    "sampling": ("sampling", {"cyclic": ("cho",)}),
    "task": ("data", {"shakespeare": ("mcmahan2017", "caldas"), "emnist": ("caldas",), "cifar100": ("reddi",)}),
}
_ACCOUNTANTS: dict[str, tuple[str, ...]] = {"rdp": ("mironov", "ponomareva"), "pld": ("koskela", "ponomareva")}


def citations(config: Mapping[str, Any]) -> list[tuple[str, Reference]]:
    """What each paper is cited for, and the paper.

    Args:
        config: As in `config.json`; names that are not known are passed over.

    Example:
        >>> [(used, paper.authors) for used, paper in citations({"algorithm": "fedprox", "client_optimizer": "adam"})]
        [('algorithm fedprox', 'Li et al.'), ('client optimizer adam', 'Kingma, Ba')]
    """
    used: dict[str, list[str]] = {}
    for what, keys in _found(config):
        for key in keys:
            used.setdefault(key, []).append(what)
    return [(", ".join(whats), REFERENCES[key]) for key, whats in used.items()]


def _found(config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for setting, (what, known) in _OF_SETTINGS.items():
        names = re.findall(r"\w+", str(config.get(setting) or ""))  # a chain names its stages
        yield from ((f"{what} {name}", known[name]) for name in dict.fromkeys(names) if name in known)
    privacy = config.get("privacy")
    accountant = privacy.get("accountant") if isinstance(privacy, Mapping) else None
    if accountant in _ACCOUNTANTS:
        yield "privacy accounting", _ACCOUNTANTS[accountant]
