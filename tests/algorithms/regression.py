"""Linear regression over random rounds of named clients, some of which sit out, and one of which has no data."""

import jax.numpy as jnp
import numpy as np

import fedloom as fl

START = [np.array([0.1, 0.2, -0.3], np.float32), np.float32(0.4)]
NAMES = ("ada", "bob", "cy", "dan", "empty")


def model():
    """Weights and a bias, as the oracles have them."""
    return fl.models.from_functions(lambda key: [jnp.zeros(3), jnp.zeros(())], lambda p, x: x @ p[0] + p[1], lambda y, p: (p - y) ** 2 / 2)


def cohorts(rounds, seed=4):
    """A list of dicts from client to batches (x, y, sample_weight); a client's batches are the same whenever it takes part."""
    rng = np.random.default_rng(seed)

    def batch(slope):
        x = rng.normal(size=(int(rng.choice([1, 4])), 3))
        return tuple(v.astype(np.float32) for v in (x, x @ slope + 0.3 + rng.normal(size=len(x)), rng.uniform(0.5, 2, len(x))))

    data = {name: [batch(rng.normal(size=3)) for _ in range(k)] for name, k in zip(NAMES, (1, 4, 2, 3, 0), strict=True)}
    chosen = [rng.choice(NAMES, 3, replace=False) for _ in range(rounds)]
    return [{str(name): data[name] for name in names} for names in chosen]


def num_examples(batches):
    return float(sum(len(y) for _, y, _ in batches))
