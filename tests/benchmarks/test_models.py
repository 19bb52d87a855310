import jax
import jax.numpy as jnp
import pytest

from benchmarks._models import MODELS, Product, convolution, dense, recurrent


def counted(function, *arguments) -> float:
    """FLOPs that XLA counts in a function, elementwise ones included."""
    return jax.jit(function).lower(*arguments).cost_analysis()["flops"]


def close(ours: int, theirs: float) -> bool:
    """Whether XLA counts as much, and no more than a few per cent of elementwise operations on top."""
    return ours <= theirs * 1.001 and theirs <= ours * 1.05


def arrays(*shapes):
    return [jax.random.normal(key, shape) for key, shape in zip(jax.random.split(jax.random.key(0), len(shapes)), shapes, strict=True)]


@pytest.mark.parametrize(("first", "wanted"), [(False, (0, 1)), (True, (1,))])
def test_dense_layer_has_the_products_that_xla_counts(first, wanted):
    x, w = arrays((16, 784), (784, 512))
    gradient = jax.value_and_grad(lambda x, w: (x @ w).sum(), wanted)
    assert close(16 * dense(784, 512, first=first).training, counted(gradient, x, w))


@pytest.mark.parametrize(("first", "wanted"), [(False, (0, 1)), (True, (1,))])
def test_convolution_has_the_products_that_xla_counts(first, wanted):
    x, w = arrays((2, 14, 14, 16), (3, 3, 16, 24))

    def total(x, w):
        return jax.lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")).sum()

    assert close(2 * convolution(14, 14, 16, 24, 3, first=first).training, counted(jax.value_and_grad(total, wanted), x, w))


@pytest.mark.parametrize("gates", [3, 4])
def test_recurrent_layer_has_the_products_of_its_steps(gates):
    x, h, w, u = arrays((4, 48), (4, 128), (48, gates * 128), (128, gates * 128))
    gradient = jax.value_and_grad(lambda *parts: (parts[0] @ parts[2] + parts[1] @ parts[3]).sum(), (0, 1, 2, 3))
    assert close(4 * sum(product.training for product in recurrent(gates, 48, 128)), counted(gradient, x, h, w, u))


def test_models_have_the_sizes_of_the_issue():
    """Closed forms: three products of each layer, two of a first one."""
    tokens = 100
    assert MODELS["gru"].training_flops == tokens * 6 * ((256 + 1024) * 3072 + 1024 * 86)
    assert MODELS["lstm"].training_flops == 80 * 6 * ((8 + 256) * 1024 + (256 + 256) * 1024 + 256 * 90)
    assert MODELS["cnn"].training_flops == 4 * 26**2 * 9 * 32 + 6 * (24**2 * 9 * 32 * 64 + 9216 * 128 + 128 * 62)
    assert MODELS["logistic"].training_flops == 4 * 784 * 10


def test_first_product_needs_no_gradient_of_its_input():
    assert (Product(10).training, Product(10, first=True).training) == (30, 20)


@pytest.mark.parametrize("name", ["cnn", "logistic"])  # the others take seconds to build
def test_counts_belong_to_the_models_that_are_trained(name):
    """Every weight but biases and embeddings is used by products of 2 FLOPs per use, and the model's weights have those sizes."""
    from benchmarks._data import keras_model

    weights = {weight.path: weight.shape for weight in keras_model(name).weights}
    uses = {"cnn": [26**2, 24**2, 1, 1]}.get(name)
    kernels = [int(jnp.prod(jnp.array(shape))) for path, shape in weights.items() if path.endswith("kernel")]
    forward = 2 * sum(size * use for size, use in zip(kernels, uses or [1] * len(kernels), strict=True))
    assert forward == sum(layer.flops for layer in MODELS[name].layers)
