"""The network: PyTorch's convention, gradients, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import sine_weights

from jaxrl_se.networks import ACTIVATIONS, MLP, resize_hidden

_NUMPY = {
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "prelu": lambda x: np.where(x > 0, x, 0.25 * x),
    "tanh": np.tanh,
    "swish": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: x / 2 * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_forward_is_the_formula(activation):
    net = MLP(3, (5, 4), 2, activation)
    weights = sine_weights(net, scale=1.0)
    x = np.linspace(-2, 2, 3, dtype=np.float32)
    first, second, output = weights
    hidden = _NUMPY[activation](x @ first["kernel"] + first["bias"])
    hidden = _NUMPY[activation](hidden @ second["kernel"] + second["bias"])
    expected = output["kernel"] @ hidden + output["bias"]
    np.testing.assert_allclose(jax.jit(net)(weights, x), expected, rtol=1e-5, atol=1e-6)


def test_no_hidden_layer_is_linear():
    net = MLP(3, (), 2)
    (layer,) = weights = sine_weights(net)
    x = np.arange(3, dtype=np.float32)
    expected = layer["kernel"] @ x + layer["bias"]
    np.testing.assert_allclose(jax.jit(net)(weights, x), expected, atol=1e-6)


def test_init_is_pytorchs_linear_default():
    net = MLP(16, (400,), 100, "relu")
    hidden, output = jax.device_get(jax.jit(net.init)(jax.random.key(0)))
    assert output["kernel"].shape == (100, 400)  # [out, in], as documented
    for layer, fan_in in ((hidden, 16), (output, 400)):
        for leaf in layer.values():
            assert leaf.dtype == np.float32
            bound = fan_in**-0.5
            assert np.abs(leaf).max() <= bound
            # The std of U(-b, b) is b / sqrt(3); 100 draws put it within a fifth.
            np.testing.assert_allclose(leaf.std(), bound / 3**0.5, rtol=0.2)
            np.testing.assert_allclose(leaf.mean(), 0, atol=0.2 * bound)


def test_gradients_reach_every_weight():
    net = MLP(3, (5,), 2, "tanh")
    grads = jax.jit(jax.grad(lambda w: jnp.sum(net(w, jnp.ones(3)) ** 2)))(
        sine_weights(net)
    )
    assert all(np.all(leaf != 0) for leaf in jax.tree.leaves(grads))


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"activation must be one of .*got 'rleu'"):
        MLP(1, (2,), 1, "rleu")
    with pytest.raises(ValueError, match="hidden_sizes"):
        MLP(1, (2, 0), 1)


@pytest.mark.parametrize("hidden_sizes", [(), (5,), (5, 6)])
def test_a_matrix_of_inputs_equals_its_rows_and_so_do_gradients(hidden_sizes):
    """The product of matrices has a derivative of its own; that of a row is JAX's."""
    net = MLP(3, hidden_sizes, 2, "tanh")
    members = [sine_weights(net, scale=0.1 * i) for i in range(1, 5)]
    weights = jax.tree.map(lambda *leaves: np.stack(leaves), *members)
    x = np.sin(np.arange(4 * 7 * 3, dtype=np.float32)).reshape(4, 7, 3)

    def outputs_and_gradients(apply):
        loss = lambda weights, x: jnp.sum(jnp.sin(apply(weights, x)))  # noqa: E731
        grad = jax.jit(jax.vmap(jax.grad(loss, argnums=(0, 1))))
        return jax.jit(jax.vmap(apply))(weights, x), grad(weights, x)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        outputs_and_gradients(net),
        outputs_and_gradients(jax.vmap(net, (None, 0))),
    )


@pytest.mark.parametrize("activation", ["tanh", "gelu"])
def test_units_of_zeros_change_nothing_and_stay(activation):
    net = MLP(3, (5, 6), 2, activation)
    inputs = jax.random.normal(jax.random.key(1), (4, 3))
    weights = net.init(jax.random.key(0))
    padded = resize_hidden(weights, (8, 8))
    assert padded[1]["kernel"].shape == (8, 8) and padded[2]["kernel"].shape == (2, 8)
    np.testing.assert_allclose(net(padded, inputs), net(weights, inputs), rtol=1e-5)
    grad = jax.jit(jax.grad(lambda w: jnp.sum(jnp.square(net(w, inputs)))))
    grads = resize_hidden(grad(padded), net.hidden_sizes)
    leaves = (jax.tree.leaves(x) for x in (grads, grad(weights)))
    for a, b in zip(*leaves, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    leaves = (jax.tree.leaves(x) for x in (resize_hidden(grads, (8, 8)), grad(padded)))
    for a, b in zip(*leaves, strict=True):  # units of zeros have no gradient
        np.testing.assert_array_equal(a, b)
