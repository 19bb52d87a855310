"""Clients that know a fixed number of labels each."""

from __future__ import annotations

import numpy as np

from ._rows import Columns, Partitioner, Shares, check_whole, checked_number, even_sizes, label_codes, shuffled_by_owner


def pathological(label: str, labels_per_client: int) -> Partitioner:
    """Each client has `labels_per_client` labels at random; a label's rows go in equal parts, at random, to the clients that have it.

    "#C = k" of Li et al. 2022 (arXiv:2102.02079), their quantity-based label imbalance. There, a label that nobody drew is lost; here,
    labels are first dealt out once each, and clients draw the rest of theirs. A client has fewer labels where a label has fewer rows than
    clients that drew it.

    Args:
        label: The column of labels.
        labels_per_client: At least 1.

    Raises:
        ValueError: `labels_per_client` is less than 1; when run, there is no column `label`, there are fewer labels than a client shall
            have, or so few clients that not every label finds one.
    """
    check_whole(labels_per_client, "labels_per_client")

    def deal(columns: Columns, num_clients: int | None, rng: np.random.Generator) -> Shares:
        codes, num_labels = label_codes(columns, label)
        number = checked_number(columns, num_clients)
        if not -(-num_labels // number) <= labels_per_client <= num_labels:
            raise ValueError(
                f"labels_per_client must be in [{-(-num_labels // number)}, {num_labels}], since column {label!r} has {num_labels} labels "
                f"for {number} clients, got {labels_per_client}."
            )
        draws = rng.random((number, num_labels))  # each client has the labels with its smallest draws
        dealt = rng.permutation(num_labels)
        draws[np.arange(num_labels) % number, dealt] = -1
        has = np.zeros(draws.shape, bool)
        np.put_along_axis(has, np.argpartition(draws, labels_per_client - 1)[:, :labels_per_client], True, axis=1)

        shuffled = rng.permutation(len(codes))
        by_label = shuffled[np.argsort(codes[shuffled], kind="stable")]
        # Shuffled, so that it is not always the first clients that get the odd rows.
        clients_of = [rng.permutation(np.flatnonzero(column)) for column in has.T]
        counts = np.bincount(codes)
        owner = np.empty(len(codes), np.int64)
        owner[by_label] = np.concatenate([np.repeat(c, even_sizes(n, len(c))) for c, n in zip(clients_of, counts, strict=True)])
        return shuffled_by_owner(owner, number, rng)

    return deal
