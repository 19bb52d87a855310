import numpy as np
import pytest
from golden_cases import FOLDER, keras

import fedloom as fl


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])


def test_a_keras_file_is_told_by_its_content(model, tmp_path):
    model.save(tmp_path / "model.keras")
    (tmp_path / "model.keras").rename(tmp_path / "model.bin")
    loaded = fl.models.load(tmp_path / "model.bin")
    for a, b in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_keras_2_file_is_told_by_its_content(tmp_path):
    renamed = tmp_path / "model.keras"
    renamed.write_bytes((FOLDER / "legacy_keras" / "gru_reset_after.batch8.kerasmodel").read_bytes())
    assert fl.models.load(renamed).input_shape == (8, None)


def test_what_is_no_model_is_refused_by_name(model, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no model file 'dikkens'.*shipped are \['dickens'\]"):
        fl.models.load("dikkens")
    (tmp_path / "poem.keras").write_text("Shall I compare thee")
    with pytest.raises(ValueError, match=r"poem.keras must be a .keras file or a Keras 2 HDF5 file.*b'Shall I '"):
        fl.models.load(tmp_path / "poem.keras")
    (tmp_path / "empty.keras").touch()
    with pytest.raises(ValueError, match="empty.keras"):
        fl.models.load(tmp_path / "empty.keras")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused_by_name(model, tmp_path, share):
    model.save(tmp_path / "model.keras")
    content = (tmp_path / "model.keras").read_bytes()
    (tmp_path / "half.keras").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match="half.keras is not a model that can be loaded"):
        fl.models.load(tmp_path / "half.keras")


def test_a_lambda_layer_is_refused(tmp_path):
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Lambda(lambda x: x + 1)]).save(tmp_path / "lambda.keras")
    with pytest.raises(ValueError, match=r"(?is)lambda\.keras is not a model.*lambda"):
        fl.models.load(tmp_path / "lambda.keras")


def test_the_shipped_model_predicts_shakespeare_before_it_has_seen_any(tff_folder):
    """At least 0.40 of the next characters, as the model of TFF's tutorial; a bigram model has 0.268."""
    model = fl.models.load("dickens")
    assert model.output_shape == (None, None, 86)
    _, test = fl.data.shakespeare("tff", path=tff_folder)
    process = fl.LearningProcess(fl.algorithms.fedavg(fl.text.next_character_model(model), "sgd"))
    windows = test.subset(test.client_ids[::20]).map(fl.text.CharWindows(100))
    assert process.evaluate(process.initialize(model), windows)["accuracy"] > 0.40
