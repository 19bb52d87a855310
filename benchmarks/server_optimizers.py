"""Server optimizers on TFF's Shakespeare, as in Reddi et al. 2021 (arXiv:2003.00295): who is ahead early?

    python benchmarks/server_optimizers.py FOLDER [--rounds 150 --out results.json]

FOLDER holds TFF's shakespeare_train.h5 and shakespeare_test.h5. Next-character prediction with Embedding(90, 8), two LSTM(256) and
Dense(90) on sequences of 80; all 715 clients, 10 a round, one local epoch of SGD at rate 1.0 in batches of 4. The five server optimizers
train in lockstep, on the same cohorts from the same weights, with the paper's best rates and epsilons. Accuracy is that
of characters: neither padding nor marks of begin and end count. After every round, OUT is written anew, so that a run that was cut short
still says how far each one came.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

import fedloom as fl  # before keras

import keras  # isort: skip

LENGTH, COHORT, BATCH = 80, 10, 4
SIZE = fl.text.ShakespeareSequences.num_ids
TEST_CLIENTS = 120
SERVER = {
    "fedavg": lambda: fl.optimizers.sgd(1.0),
    "fedavgm": lambda: fl.optimizers.sgd(10**-0.5, momentum=0.9),
    "fedadagrad": lambda: fl.optimizers.adagrad(10**-0.5, initial_preconditioner_value=0.0, epsilon=1e-1),
    "fedadam": lambda: fl.optimizers.adam(1e-2, epsilon=1e-3),
    "fedyogi": lambda: fl.optimizers.yogi(1e-2, epsilon=1e-3),
}


def main() -> None:
    """Trains, evaluates and writes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--evaluate-every", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("server_optimizers.json"))
    arguments = parser.parse_args()
    sequences = fl.text.ShakespeareSequences(LENGTH, weigh_eos=False)
    train, test = (dataset.map(sequences) for dataset in fl.data.shakespeare("tff", path=arguments.folder))
    held_out = test.sample(TEST_CLIENTS, seed=0)
    keras.utils.set_random_seed(0)
    keras_model = character_lstm()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model = fl.models.from_keras(keras_model, loss, [keras.metrics.SparseCategoricalAccuracy(name="accuracy")])
    batching = fl.data.Batching(size=BATCH)
    processes = {
        name: fl.LearningProcess(fl.algorithms.fedavg(model, fl.optimizers.sgd(1.0), server()), batching=batching)
        for name, server in SERVER.items()
    }
    states = {name: process.initialize(keras_model) for name, process in processes.items()}
    results: dict = {name: {"train_accuracy": [], "train_loss": [], "test_accuracy": {}, "seconds": 0.0} for name in SERVER}
    sample = fl.data.uniform(train.client_ids, COHORT, seed=0)
    for r in range(arguments.rounds):
        cohort = train.subset(sample(r))
        for name, process in processes.items():
            start = time.perf_counter()
            states[name], metrics = process.next(states[name], cohort)
            own = results[name]
            own["train_accuracy"].append(metrics["accuracy"])
            own["train_loss"].append(metrics["loss"])
            own["seconds"] += time.perf_counter() - start
            if (r + 1) % arguments.evaluate_every == 0:
                own["test_accuracy"][r + 1] = process.evaluate(states[name], held_out)["accuracy"]
        arguments.out.write_text(json.dumps(results, indent=1))
        shown = "  ".join(f"{name} {np.mean(own['train_accuracy'][-10:]):.3f}" for name, own in results.items())
        print(f"round {r + 1}: training accuracy, mean of the last 10 rounds: {shown}", flush=True)


def character_lstm() -> keras.Model:
    """The paper's model."""
    layers = keras.layers
    recurrent = [layers.LSTM(256, return_sequences=True) for _ in range(2)]
    return keras.Sequential([keras.Input((LENGTH,), dtype="int32"), layers.Embedding(SIZE, 8), *recurrent, layers.Dense(SIZE)])


if __name__ == "__main__":
    main()
