"""What differential privacy costs a vocabulary: `fl.analytics.vocabulary` on TFF's federated Shakespeare, against epsilon.

    python benchmarks/vocabulary_privacy.py FOLDER [--seeds 5 --out results.json --figure figure.svg]
    python benchmarks/vocabulary_privacy.py --from-results results.json --figure figure.svg

FOLDER holds TFF's shakespeare_train.h5 and shakespeare_test.h5; the 715 clients of training are analysed. For each epsilon and seed: which
share of all distinct characters or words was given out, and which share of the text consists of those. The truth is a count over the
pooled text. For comparison, k-anonymity without noise: what at least 10 clients have.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import numpy as np

import fedloom as fl

DELTA = 1e-4  # below 1 / 715
EPSILONS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
MIN_CLIENTS = 10
SETTINGS = {  # tokens -> bounds on distinct tokens per client, and what holds them all
    "characters": ((64,), {"capacity": 100, "max_bytes": 2}),
    "words": ((100, 300), {"capacity": 25_000}),
}
COLORS = {("characters", 64): "#1b6ca8", ("words", 100): "#e0a030", ("words", 300): "#c0392b"}


def main() -> None:
    """Measures, writes and draws."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("vocabulary_privacy.json"))
    parser.add_argument("--from-results", type=Path)
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    if arguments.from_results:
        results = json.loads(arguments.from_results.read_text())
    else:
        results = measured(arguments.folder, arguments.seeds)
        arguments.out.write_text(json.dumps(results, indent=1) + "\n")
    if arguments.figure:
        draw(results, arguments.figure)


def measured(folder: Path, seeds: int) -> dict:
    """All runs, each with what it was asked for and what came out."""
    train, _ = fl.data.shakespeare("tff", path=folder)
    runs, k_anonymous = [], {}
    for tokens, (bounds, settings) in SETTINGS.items():
        true = pooled_counts(train, tokens)

        def shares(found, true=true):
            text = sum(true[token] for token in found.tokens) / true.total()
            return {"tokens": len(found.tokens), "share_of_vocabulary": len(found.tokens) / len(true), "share_of_text": text}

        k_anonymous[tokens] = shares(fl.analytics.vocabulary(train, tokens, min_clients=MIN_CLIENTS, **settings)) | {"distinct": len(true)}
        for bound in bounds:
            for epsilon in EPSILONS:
                for seed in range(seeds):
                    private = {"max_per_client": bound, "epsilon": epsilon, "delta": DELTA, "seed": seed}
                    found = fl.analytics.vocabulary(train, tokens, **private, **settings)
                    assert found.privacy is not None
                    runs.append(
                        {"of": tokens, **private, **shares(found), "noise": found.privacy.noise_multiplier, "threshold": found.threshold}
                    )
                    print(runs[-1], flush=True)
    versions = {name: version(name) for name in ("fedloom", "jax", "numpy", "dp-accounting")}
    return {"clients": len(train), "min_clients": MIN_CLIENTS, "k_anonymous": k_anonymous, "runs": runs, "versions": versions}


def pooled_counts(train: fl.data.FederatedDataset, tokens: str) -> Counter[str]:
    """How often each token comes in the whole text."""
    counts: Counter[str] = Counter()
    for client in train:
        for text in train[client]["snippets"]:
            counts.update(text if tokens == "characters" else re.findall(r"\w+(?:['\u2019]\w+)*", text.lower()))
    return counts


def draw(results: dict, path: Path) -> None:
    """Shares against epsilon: mean over seeds, a band from the least to the most, and k-anonymity as a dashed line."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "fedloom"
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for panel, name in zip(panels, ("share_of_vocabulary", "share_of_text"), strict=True):
        for (tokens, bound), color in COLORS.items():
            own = [run for run in results["runs"] if (run["of"], run["max_per_client"]) == (tokens, bound)]
            epsilons = sorted({run["epsilon"] for run in own})
            values = np.array([[run[name] for run in own if run["epsilon"] == epsilon] for epsilon in epsilons])
            panel.plot(epsilons, values.mean(1), "o-", ms=3, color=color, label=f"{tokens}, {bound} per client")
            panel.fill_between(epsilons, values.min(1), values.max(1), color=color, alpha=0.25, lw=0)
            if (tokens, bound) != ("words", 100):
                panel.axhline(results["k_anonymous"][tokens][name], color=color, ls="--", lw=1)
        panel.set(xscale="log", xlabel="epsilon", xticks=EPSILONS, xticklabels=[f"{epsilon:g}" for epsilon in EPSILONS])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].set(ylabel="share of distinct tokens", yscale="log", ylim=(2e-5, 1.5))
    panels[1].set(ylabel="share of the text", ylim=(0, 1.03))
    panels[1].legend(loc="lower right", fontsize=8)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
