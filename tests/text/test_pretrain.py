import json

import numpy as np
import pytest
from golden_cases import keras

from fedloom.text import PretrainConfig, pretrain

CONFIG = PretrainConfig(embedding=4, units=8, dropout=0.2, epochs=4, batch_size=4, length=10, learning_rate=1e-2, validation_share=0.2)


@pytest.fixture
def text(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("the cat sat on the mat, the rat sat on the cat. " * 12)
    return file


def test_training_learns_and_leaves_a_plain_keras_model_with_its_history(text, tmp_path):
    epochs = pretrain([text], tmp_path / "model.keras", CONFIG)
    assert epochs[-1].val_loss < epochs[0].val_loss
    model = keras.saving.load_model(tmp_path / "model.keras")
    assert {type(layer).__module__.split(".")[0] for layer in model.layers} == {"keras"}
    history = json.loads((tmp_path / "model.json").read_text())
    assert [epoch["val_loss"] for epoch in history["epochs"]] == [epoch.val_loss for epoch in epochs]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.json", "model.keras", "text.txt"]


def test_a_training_interrupted_after_any_epoch_ends_in_the_same_weights(text, tmp_path):
    """Equal to the bit: weights, Adam's state, the learning rate and dropout's seeds all go on where they were."""
    pretrain([text], tmp_path / "whole.keras", CONFIG)

    class Killed(Exception):
        pass

    def stop_after_second(epoch):
        if epoch.epoch == 1:
            raise Killed

    with pytest.raises(Killed):
        pretrain([text], tmp_path / "parts.keras", CONFIG, on_epoch=stop_after_second)
    assert not (tmp_path / "parts.keras").exists()
    pretrain([text], tmp_path / "parts.keras", CONFIG)
    whole, parts = (keras.saving.load_model(tmp_path / f"{name}.keras").get_weights() for name in ("whole", "parts"))
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_state_of_other_settings_is_not_taken_up(text, tmp_path):
    def stop(epoch):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain([text], tmp_path / "model.keras", CONFIG, on_epoch=stop)
    with pytest.raises(ValueError, match="other settings or texts"):
        pretrain([text], tmp_path / "model.keras", PretrainConfig(units=9, embedding=4, batch_size=4, length=10, validation_share=0.2))


def test_the_best_epoch_is_kept_and_training_stops_when_it_no_longer_improves(text, tmp_path):
    """With an absurd learning rate the loss soon rises; after `patience` epochs without a better one it ends."""
    config = PretrainConfig(embedding=4, units=8, epochs=30, batch_size=4, length=10, learning_rate=3.0, validation_share=0.2, patience=2)
    epochs = pretrain([text], tmp_path / "model.keras", config)
    losses = [epoch.val_loss for epoch in epochs]
    assert len(epochs) < 30
    assert len(epochs) - 1 - int(np.argmin(losses)) == 2


def test_bad_input_is_named(text, tmp_path):
    with pytest.raises(ValueError, match="must end in .keras"):
        pretrain([text], tmp_path / "model.h5", CONFIG)
    with pytest.raises(FileNotFoundError, match="missing.txt"):
        pretrain([tmp_path / "missing.txt"], tmp_path / "model.keras", CONFIG)
    with pytest.raises(ValueError, match="too short"):
        pretrain([text], tmp_path / "model.keras", PretrainConfig())
    text.write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match="UTF-8 text, but byte 3"):
        pretrain([text], tmp_path / "model.keras", CONFIG)
    with pytest.raises(ValueError, match="units must be at least 1"):
        PretrainConfig(units=0)
    assert [p.name for p in tmp_path.iterdir()] == ["text.txt"]
