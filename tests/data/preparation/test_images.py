"""Images to x and y: against the formula in float64, and what is refused."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedloom.data import Batching, FederatedDataset, Images, moments

GRAY = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
LABELS = np.array([1, 0])


@given(st.data(), st.sampled_from([np.uint8, np.int16, np.float32, np.float64, np.bool]), st.booleans(), st.booleans())
def test_x_is_the_image_scaled_and_standardized(data, dtype, color, flatten):
    """x = (image * scale - mean) / std, for each channel its own; the oracle works on one pixel at a time."""
    channels = 3 if color else 1
    shape = data.draw(st.tuples(st.integers(0, 3), st.integers(1, 3), st.integers(1, 3)))
    limits = {"min_value": 0, "max_value": 1} if np.dtype(dtype).kind == "f" else {}
    images = data.draw(hnp.arrays(dtype, (*shape, channels) if color else shape, elements=hnp.from_dtype(np.dtype(dtype), **limits)))
    mean, std = (tuple(data.draw(st.floats(low, 2)) for _ in range(channels)) for low in (-2, 0.25))
    prepare = Images(scale=0.5, mean=mean, std=std, flatten=flatten, label=None)
    x = prepare({"image": images})["x"]
    expected = np.zeros((*shape, channels))
    for place in np.ndindex(*expected.shape):
        pixel = images[place if color else place[:-1]]
        expected[place] = (float(pixel) * 0.5 - mean[place[-1]]) / std[place[-1]]
    assert x.dtype == np.float32
    np.testing.assert_allclose(x.reshape(expected.shape), expected, rtol=1e-5, atol=1e-5)
    assert x.shape == ((shape[0], shape[1] * shape[2] * channels) if flatten else expected.shape)


def test_pixels_come_to_lie_between_0_and_1():
    """Without a scale: bytes are divided by 255; floats and bool lie there already."""
    for images in (np.array([[[0, 51, 255]]], np.uint8), np.array([[[0, 0.2, 1]]]), np.array([[[False, True]]])):
        x = Images(label=None)({"image": images})["x"].ravel()
        assert (x[0], x[-1]) == (0, 1)
    np.testing.assert_allclose(Images(label=None)({"image": np.array([[[51]]], np.uint8)})["x"].item(), 0.2, rtol=1e-6)


def test_the_source_is_left_as_it_is():
    """Also where no conversion would copy it."""
    images = np.full((1, 2, 2, 1), 0.5, np.float32)
    images.flags.writeable = False
    assert Images(label=None, mean=0.5)({"image": images})["x"].max() == 0
    assert images.min() == 0.5


def test_labels_become_whole_numbers():
    assert Images()({"image": GRAY, "label": LABELS})["y"].tolist() == [1, 0]
    named = Images(classes=("cat", "dog"))({"image": GRAY, "label": np.array(["dog", "cat"], object)})["y"]
    assert named.tolist() == [1, 0] and named.dtype == np.int32
    assert Images(label="fine", classes=(40, 7))({"image": GRAY, "fine": np.array([7, 40])})["y"].tolist() == [1, 0]
    assert Images(label=None)({"image": GRAY}).keys() == {"x"}


def test_standardized_over_all_clients():
    """`moments` of what `Images` makes are what `Images` takes: x has mean 0 and deviation 1 in each channel then."""
    rng = np.random.default_rng(0)
    clients = {
        name: {"image": rng.integers(0, 256, (n, 4, 5, 3)).astype(np.uint8), "label": np.zeros(n, int)} for name, n in (("a", 3), ("b", 5))
    }
    data = FederatedDataset.from_dict(clients)
    mean, std = moments(data.map(Images()), "x")
    prepare = pickle.loads(pickle.dumps(Images(mean=mean["x"], std=std["x"])))
    assert prepare == Images(mean=mean["x"].tolist(), std=std["x"].tolist())
    x = np.concatenate([columns["x"] for columns in data.map(prepare).values()])
    np.testing.assert_allclose(x.mean(axis=(0, 1, 2)), np.zeros(3), atol=1e-6)
    np.testing.assert_allclose(x.std(axis=(0, 1, 2)), np.ones(3), rtol=1e-5)


def test_batches_are_made_of_it_with_the_weights_of_examples():
    prepared = Images()({"image": GRAY, "label": LABELS, "sample_weight": np.array([0.5, 2])})
    (batch,) = Batching(size=2, shuffle=False).batches(prepared, client="ada")
    assert batch.x.shape == (2, 3, 4, 1)
    assert batch.sample_weight.tolist() == [0.5, 2]


@pytest.mark.parametrize(
    ("settings", "columns", "message"),
    [
        ({}, {"pixels": GRAY, "label": LABELS}, r"Images needs the column 'image', got \['label', 'pixels'\].*`image=`"),
        ({}, {"image": GRAY}, r"Images needs the column 'label', got \['image'\].*`label=`"),
        ({}, {"image": GRAY.astype(object), "label": LABELS}, r"must be numbers of shape .*got object of shape \(2, 3, 4\).*one size"),
        ({}, {"image": GRAY.reshape(2, 12), "label": LABELS}, r"got uint8 of shape \(2, 12\)"),
        ({}, {"image": GRAY.astype(np.int64), "label": LABELS}, r"of int64 has values from 0 to 23; without `scale`.*scale=1 / 255"),
        ({}, {"image": GRAY * 1.0, "label": LABELS}, r"of float64 has values from 0.0 to 23.0; without `scale`"),
        ({"scale": 1}, {"image": np.full((1, 1, 1), np.nan), "label": [0]}, "must hold finite numbers, got values from nan"),
        ({"mean": (1, 2)}, {"image": GRAY, "label": LABELS}, "Images.mean must be one number or one per channel, got 2 numbers for 1 "),
        ({}, {"image": GRAY, "label": np.array([-1, 0])}, "whole numbers from 0 to 2147483647, got -1 to 0.*`classes=`"),
        ({}, {"image": GRAY, "label": np.array([0, 2**31])}, "got 0 to 2147483648"),
        ({}, {"image": GRAY, "label": np.array([0.0, 1.0])}, r"one whole number per example, got float64 of shape \(2,\)"),
        ({}, {"image": GRAY, "label": LABELS[:, None]}, r"got int64 of shape \(2, 1\)"),
        (
            {"classes": ("cat",)},
            {"image": GRAY, "label": np.array(["cat", "dog"], object)},
            r"'label' must hold values listed in `classes` only, got 'dog' in row 1 \(1 of 2 rows",
        ),
    ],
)
def test_bad_columns_are_named(settings, columns, message):
    with pytest.raises(ValueError, match=message):
        Images(**settings)(columns)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": 0}, "Images.scale must be a finite number other than 0, got 0"),
        ({"scale": float("nan")}, "Images.scale"),
        ({"std": (0.5, 0.0)}, r"Images.std must be one number or a list of them, finite numbers above 0 .*got \(0.5, 0.0\)"),
        ({"mean": float("inf")}, "Images.mean must be"),
        ({"mean": [[1.0]]}, "Images.mean must be"),
        ({"mean": {"x": 1.0}}, "Images.mean must be"),
        ({"classes": ("a", "b", "a")}, "Images.classes must list values, each once"),
        ({"classes": "ab"}, "Images.classes must list values"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Images(**settings)
