"""Label skew from the Dirichlet distribution, in the two ways that the literature calls by this name."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ._rows import (
    Columns,
    Partitioner,
    Shares,
    check_concentration,
    check_whole,
    checked_number,
    even_sizes,
    label_codes,
    shuffled_by_owner,
)

_MAX_REDRAWS = 100


def dirichlet(label: str, alpha: float, *, per: Literal["client", "label"] = "client", min_examples: int = 0) -> Partitioner:
    """Label skew of strength 1 / alpha.

    per="client": Hsu et al. 2019 (arXiv:1909.06335), section 3. Every client draws a distribution over labels, q ~ Dir(alpha * p) with p
    the labels' shares of the whole data set, then its rows from q, without replacement. Clients are equally large. They are filled one
    after the other, in random order; a label that has run out is left out of the q of those still to come, so that the last get what is
    left rather than what they drew.

    per="label": Yurochkin et al. 2019 (arXiv:1905.12022), section 4; "p_k ~ Dir_N(beta)" of Li et al. 2022 (arXiv:2102.02079). Every label
    draws a distribution over clients, symmetric with concentration alpha, by which its rows are cut up. Clients differ in size too, and
    some may be empty, unless `min_examples` says otherwise: as in their code, all is then drawn anew until it holds.

    The same alpha means different things: with L labels of equal size, per="client" has the concentration alpha / L for each label, and
    per="label" has alpha for each client. A client's rows are in random order.

    Args:
        label: The column of labels.
        alpha: Concentration, in [1e-9, 1e9]: from one label per client up to all alike.
        per: For what distributions are drawn.
        min_examples: What every client has at least.

    Raises:
        ValueError: An argument is out of range; when run, there is no column `label`, there are too few rows, or `min_examples` did not
            hold in 100 draws.
    """
    check_concentration(alpha)
    check_whole(min_examples, "min_examples", least=0)
    if per not in ("client", "label"):
        raise ValueError(f'per must be "client" or "label", got {per!r}.')

    def deal(columns: Columns, num_clients: int | None, rng: np.random.Generator) -> Shares:
        codes, num_labels = label_codes(columns, label)
        number = checked_number(columns, num_clients, rows_each=max(1, min_examples))
        counts = np.bincount(codes, minlength=num_labels)
        deal_labels = _fill_clients if per == "client" else _cut_labels
        clients = deal_labels(counts, alpha, number, min_examples, rng)
        shuffled = rng.permutation(len(codes))
        owner = np.empty(len(codes), np.int64)
        owner[shuffled[np.argsort(codes[shuffled], kind="stable")]] = clients
        return shuffled_by_owner(owner, number, rng)

    return deal


# Both give the client of each row, int64 (n,), for rows sorted by label, of which there are `counts`.


def _fill_clients(counts: np.ndarray, alpha: float, num_clients: int, min_examples: int, rng: np.random.Generator) -> np.ndarray:
    prior, left = counts / counts.sum(), counts.copy()
    sizes, clients = even_sizes(int(counts.sum()), num_clients), rng.permutation(num_clients)
    drawn = [np.repeat(np.arange(len(counts)), _draw(left, rng.dirichlet(alpha * prior), size, rng)) for size in sizes[clients]]
    return np.repeat(clients, sizes[clients])[np.argsort(np.concatenate(drawn), kind="stable")]


def _draw(left: np.ndarray, q: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """How many rows of each label a client gets, int64 (labels,); takes them off `left`."""
    taken = np.zeros_like(left)
    while size:
        mass = np.where(left > 0, q, 0.0)
        if not mass.sum() > np.finfo(float).tiny:
            mass = left.astype(float)  # nothing is left of what this client knows
        # What goes beyond the rows left is drawn again from the other labels: the same as one row at a time.
        got = np.minimum(rng.multinomial(size, mass / mass.sum()), left)
        taken += got
        left -= got
        size -= int(got.sum())
    return taken


def _cut_labels(counts: np.ndarray, alpha: float, num_clients: int, min_examples: int, rng: np.random.Generator) -> np.ndarray:
    concentration = np.full(num_clients, alpha)
    clients = np.arange(num_clients)
    most = 0
    for _ in range(_MAX_REDRAWS):
        owners = []
        for count in counts:
            # Cut at rounded borders, as in their code: the number of rows is then within 1 of its share.
            borders = np.rint(np.cumsum(rng.dirichlet(concentration)) * count).astype(np.int64)
            borders[-1] = count
            owners.append(np.repeat(clients, np.diff(borders, prepend=0)))
        owner = np.concatenate(owners)
        smallest = int(np.bincount(owner, minlength=num_clients).min())
        if smallest >= min_examples:
            return owner
        most = max(most, smallest)
    raise ValueError(
        f"min_examples={min_examples} did not hold in any of {_MAX_REDRAWS} draws, of which the best left some client with {most}. Lower "
        f'it, raise alpha ({alpha}), have fewer clients ({num_clients}), or take per="client", which makes all equally large.'
    )
