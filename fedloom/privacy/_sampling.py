"""Who takes part in which round, as the accountant is told it: a wrong description makes every epsilon wrong.

Free to change: the checks of arguments. With care: `relation` and `releases`, which are the privacy analysis, and the fields (checkpoints).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    import dp_accounting  # slow to load: a second, for scipy

Relation = Literal["add_or_remove_one", "replace_one", "replace_special"]
"""Which populations must be hard to tell apart: with and without a client, with another in its place, with its contributions at zero."""

Releases = tuple[tuple["dp_accounting.DpEvent", int], ...]
"""What is published: (mechanism, how many times)."""


class Sampling(ABC):
    """What an accountant has to know about the choice of clients.

    Attributes:
        relation: The neighbouring relation under which epsilon holds.
    """

    relation: ClassVar[Relation]

    @abstractmethod
    def _releases(self, noise_multiplier: float, rounds: int) -> Releases: ...

    def releases(self, noise_multiplier: float, rounds: int) -> Releases:
        """What so many rounds publish, for any noise multiplier >= 0 and rounds >= 0."""
        import dp_accounting

        if rounds == 0:
            return ()
        return self._releases(noise_multiplier, rounds) if noise_multiplier > 0 else ((dp_accounting.NonPrivateDpEvent(), rounds),)

    def event(self, noise_multiplier: float, rounds: int) -> dp_accounting.DpEvent:
        """The same for use with dp-accounting itself, whose accountant must be made with this `relation`."""
        import dp_accounting

        return dp_accounting.ComposedDpEvent(
            [dp_accounting.SelfComposedDpEvent(event, count) for event, count in self.releases(noise_multiplier, rounds)]
        )


@dataclass(frozen=True)
class Poisson(Sampling):
    """Each client takes part in each round by a coin of its own, with probability cohort_size / population.

    Cohorts differ in size, and may be empty. The sum is divided by `cohort_size`, not by how many came: that would depend on one client.

    Args:
        cohort_size: Expected clients per round, in (0, population].
        population: Clients to draw from, >= 1.

    Raises:
        ValueError: An argument is out of range.
    """

    cohort_size: float
    population: int

    relation = "add_or_remove_one"

    def __post_init__(self):
        _check_count("Poisson.population", self.population)
        if not isinstance(self.cohort_size, int | float) or not 0 < self.cohort_size <= self.population:
            raise ValueError(
                f"Poisson.cohort_size must be in (0, population={self.population}], got {self.cohort_size!r}. It is how many clients "
                "take part in a round on average."
            )

    def _releases(self, noise_multiplier, rounds):
        import dp_accounting

        gaussian = dp_accounting.GaussianDpEvent(noise_multiplier)
        return ((dp_accounting.PoissonSampledDpEvent(self.cohort_size / self.population, gaussian), rounds),)


@dataclass(frozen=True)
class FixedSize(Sampling):
    """A cohort of exactly `cohort_size`, drawn uniformly without replacement, each round anew: what `fl.data.uniform` draws.

    With the size of every cohort public no client can be left out, only replaced, which changes a sum by up to twice the clip. For the same
    noise epsilon is therefore far above that of `Poisson`: 14.1 rather than 2.0 for 100 rounds of 120 of 3,383 clients at noise multiplier
    1.2. (Part of it is the bound, Wang et al. 2019, arXiv:1808.00087, Theorem 27, which is not tight.)

    Args:
        cohort_size: Clients per round, in [1, population].
        population: Clients to draw from.

    Raises:
        ValueError: An argument is out of range.
    """

    cohort_size: int
    population: int

    relation = "replace_one"

    def __post_init__(self):
        _check_count("FixedSize.population", self.population)
        _check_count("FixedSize.cohort_size", self.cohort_size)
        if self.cohort_size > self.population:
            raise ValueError(
                f"FixedSize.cohort_size must be in [1, population={self.population}], got {self.cohort_size!r}. Lower it, or load more."
            )

    def _releases(self, noise_multiplier, rounds):
        import dp_accounting

        # Half, because Theorem 27 takes the noise relative to the sensitivity, and so does the accountant, which passes the event's number
        # on as it is (google/differential-privacy#378). Ours is relative to the clip C. From +C to -C is a change of 2C.
        gaussian = dp_accounting.GaussianDpEvent(noise_multiplier / 2)
        return ((dp_accounting.SampledWithoutReplacementDpEvent(self.population, self.cohort_size, gaussian), rounds),)


@dataclass(frozen=True)
class Everyone(Sampling):
    """All clients, or any that an adversary may know, in every round: no help from sampling.

    A bound for whatever decides who takes part, as long as a client adds at most one clipped vector a round.
    """

    relation = "add_or_remove_one"

    def _releases(self, noise_multiplier, rounds):
        import dp_accounting

        return ((dp_accounting.GaussianDpEvent(noise_multiplier), rounds),)


@dataclass(frozen=True)
class Tree(Sampling):
    """DP-FTRL's tree aggregation, restarted every `rounds_per_restart` rounds; within a tree a client takes part at most once.

    No sampling is assumed, but somebody has to see to it that no client comes twice between two restarts. A client of one round of a tree
    over n rounds is in at most ceil(log2(n + 1)) of its nodes, each with noise of its own, whose standard deviation is noise multiplier
    times clip. Rounds share nodes, so a change of the noise or of the clip has to restart the tree.

    A `Ledger` sees a change of the noise and counts a new tree from there. It does not see a change of the clip: where that may happen, a
    client that took part in round r may do so again in round r + rounds_per_restart at the earliest. The count then holds wherever trees
    begin, because a client is in at most ceil(log2(m + 1)) nodes that the last m rounds publish.

    Source: Kairouz et al. 2021, arXiv:2103.00039, Definition 1.1 (the relation) and Appendix D (restarts).

    Args:
        rounds_per_restart: Rounds that one tree covers, >= 1.
        max_participations: In how many trees of a run a client takes part at most, >= 1; None if it may be in all of them.

    Raises:
        ValueError: An argument is out of range.
    """

    rounds_per_restart: int
    max_participations: int | None = None

    relation = "replace_special"

    def __post_init__(self):
        _check_count("Tree.rounds_per_restart", self.rounds_per_restart)
        if self.max_participations is not None:
            _check_count("Tree.max_participations", self.max_participations)

    def _releases(self, noise_multiplier, rounds):
        import dp_accounting

        whole_trees, rest = divmod(rounds, self.rounds_per_restart)
        trees = [(self.rounds_per_restart, whole_trees), (rest, int(rest > 0))]
        left = rounds if self.max_participations is None else self.max_participations
        releases = []
        for size, count in trees:  # the costliest first: those are the ones a client may be in
            if taken := min(count, left):
                releases.append((dp_accounting.SingleEpochTreeAggregationDpEvent(noise_multiplier, size), taken))
                left -= taken
        return tuple(releases)


@dataclass(frozen=True)
class Matrix(Sampling):
    """DP-FTRL by a banded matrix over `rounds` rounds, in which two rounds of a client are at least `min_separation` apart.

    No sampling is assumed, nor any help from it counted, but somebody has to see to the separation; to take the clients in turn, always in
    the same order, is the simplest way. With G the clipped sums, a row per round, what the rounds publish follows from C G + Z: one
    Gaussian mechanism, whose noise Z has noise multiplier times clip times sens as its standard deviation, where sens is the largest
    Frobenius norm that a client of clip 1 can have in C G. So the first round costs as much as all do, and a round beyond them, for which
    C and sens say nothing, has no privacy. Separation and participations decide sens, which `dp_matrix` computes from its arguments of the
    same names; they change no epsilon, but if clients do not keep to them it is wrong.

    The relation is that of `Tree`: sens compares a client's updates with zeros in the same rounds, while all others take part as before.

    Source: Choquette-Choo et al. 2023, arXiv:2306.08153; that later updates may depend on earlier releases: Denisov et al. 2022,
    arXiv:2202.08312, Theorem 2.1, as C is lower triangular; that vectors are no worse than numbers: Choquette-Choo et al. 2022,
    arXiv:2211.06530, as no element of C is negative.

    Args:
        rounds: Of the whole run, >= 1.
        min_separation: A client of round r takes part again in round r + min_separation at the earliest, >= 1.
        max_participations: In how many rounds a client takes part at most, >= 1; None if in all that the separation allows.

    Raises:
        ValueError: An argument is out of range.
    """

    rounds: int
    min_separation: int
    max_participations: int | None = None

    relation = "replace_special"

    def __post_init__(self):
        _check_count("Matrix.rounds", self.rounds)
        _check_count("Matrix.min_separation", self.min_separation)
        if self.max_participations is not None:
            _check_count("Matrix.max_participations", self.max_participations)

    def _releases(self, noise_multiplier, rounds):
        import dp_accounting

        if rounds > self.rounds:
            return ((dp_accounting.NonPrivateDpEvent(), 1),)
        return ((dp_accounting.GaussianDpEvent(noise_multiplier), 1),)


def _check_count(name: str, value: object) -> None:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be an int of at least 1, got {value!r}.")
