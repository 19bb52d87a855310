"""The privacy that a run has spent, as part of its state.

Free to change: the messages. With care: `to_json` (checkpoints).
"""

from __future__ import annotations

import dataclasses
import json
from typing import NamedTuple

from ._accounting import Accountant, check_accountant, check_delta, check_noise_multiplier, composed_epsilon
from ._sampling import Everyone, FixedSize, Matrix, Poisson, Sampling, Tree

_SAMPLINGS: dict[str, type[Sampling]] = {kind.__name__: kind for kind in (Poisson, FixedSize, Everyone, Tree, Matrix)}


class LedgerEntry(NamedTuple):
    """Consecutive rounds of one kind."""

    sampling: Sampling
    noise_multiplier: float
    rounds: int


@dataclasses.dataclass(frozen=True)
class Ledger:
    """What was released so far; a value like any other, so that a run can be resumed, and two runs compared.

    Args:
        entries: In the order of the rounds; equal neighbours are merged by `spend`.

    Raises:
        ValueError: The entries do not share a neighbouring relation, so no epsilon holds for all of them.

    Example:
        >>> sampling = Poisson(cohort_size=120, population=3383)
        >>> ledger = Ledger().spend(sampling, 1.2, rounds=60).spend(sampling, 1.2, rounds=40)
        >>> ledger.entries
        (LedgerEntry(sampling=Poisson(cohort_size=120, population=3383), noise_multiplier=1.2, rounds=100),)
        >>> round(ledger.epsilon(delta=1e-5), 3)
        1.986
        >>> Ledger.from_json(ledger.to_json()) == ledger
        True
    """

    entries: tuple[LedgerEntry, ...] = ()

    def __post_init__(self):
        relations = dict.fromkeys(entry.sampling.relation for entry in self.entries)
        if len(relations) > 1:
            raise ValueError(
                f"A ledger must keep to one neighbouring relation, got {' and '.join(relations)}: their epsilons speak of different pairs "
                "of populations and do not add up. Start a run of its own for another way of sampling."
            )

    def spend(self, sampling: Sampling, noise_multiplier: float, rounds: int = 1) -> Ledger:
        """The ledger after more rounds.

        Args:
            sampling: Who takes part, with the relation of what was spent before.
            noise_multiplier: As in `fl.privacy.epsilon`, of these rounds; earlier ones may have had another. In a `Tree` such a change
                has to start a new tree, and a new matrix in a `Matrix`.
            rounds: >= 1.

        Raises:
            ValueError: An argument is out of range, or the relation is another.
        """
        check_accountant("rdp", sampling)
        check_noise_multiplier(noise_multiplier)
        if not isinstance(rounds, int) or rounds < 1:
            raise ValueError(f"rounds must be an int of at least 1, got {rounds!r}.")
        entry = LedgerEntry(sampling, float(noise_multiplier), rounds)
        if self.entries and self.entries[-1][:2] == entry[:2]:
            return Ledger((*self.entries[:-1], entry._replace(rounds=self.entries[-1].rounds + rounds)))
        return Ledger((*self.entries, entry))

    def epsilon(self, delta: float, accountant: Accountant = "rdp") -> float:
        """Epsilon of all rounds together, composed entry by entry; 0 if there were none, infinite if one was without noise.

        Raises:
            ValueError: `delta` is not in (0, 1), or the accountant does not support a sampling.
        """
        check_delta(delta)
        for entry in self.entries:
            check_accountant(accountant, entry.sampling)
        if not self.entries:
            return 0.0
        releases = tuple(release for entry in self.entries for release in entry.sampling.releases(entry.noise_multiplier, entry.rounds))
        return composed_epsilon(self.entries[0].sampling.relation, releases, delta, accountant)

    def to_json(self) -> str:
        """The ledger as text, from which `from_json` makes an equal one."""
        entries = [
            {
                "sampling": {"kind": type(sampling).__name__, **vars(sampling)},
                "noise_multiplier": noise_multiplier,
                "rounds": rounds,
            }
            for sampling, noise_multiplier, rounds in self.entries
        ]
        return json.dumps({"entries": entries})

    @classmethod
    def from_json(cls, text: str) -> Ledger:
        """The ledger that `to_json` wrote.

        Raises:
            ValueError: The text is not one.
        """
        ledger = cls()
        try:
            for entry in json.loads(text)["entries"]:
                kind, fields = entry["sampling"]["kind"], {key: value for key, value in entry["sampling"].items() if key != "kind"}
                ledger = ledger.spend(_SAMPLINGS[kind](**fields), entry["noise_multiplier"], entry["rounds"])
        except (KeyError, TypeError, ValueError) as cause:
            raise ValueError(f"The text must be what Ledger.to_json writes, got {text[:200]!r}.") from cause
        return ledger
