"""The paper's transformer against golden vectors of the reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from oswm import paper_model
from oswm.paper_model import PaperConfig, PaperTransformer

# Of the published model, which nothing else is built on, like the next file.
pytestmark = pytest.mark.slow
SMALL = PaperConfig(64, 2, 4, 128, 32, 3, 16, 2)


@pytest.fixture
def reference(golden):
    data = golden("model_golden_small.npz")

    def part(prefix):
        return {k[2:]: v for k, v in data.items() if k.startswith(prefix)}

    weights = paper_model.from_torch(part("w/"), SMALL)
    gradients = paper_model.from_torch(part("g/"), SMALL)
    return data, weights, gradients


def test_output_loss_and_gradients(reference):
    data, weights, gradients = reference
    x, y = (jnp.swapaxes(data[name], 0, 1) for name in "xy")
    position = int(data["eval_pos"])

    def loss(weights):
        return paper_model.paper_loss(weights, SMALL, x, y, position)

    network = PaperTransformer(SMALL)
    predict = jax.vmap(network.apply, (None, 0, 0, 0))
    output = jax.jit(predict)(
        {"params": weights}, x[:, :position], y[:, :position], x[:, position:]
    )
    np.testing.assert_allclose(jnp.swapaxes(output, 0, 1), data["out"], atol=1e-4)
    value, found = jax.jit(jax.value_and_grad(loss))(weights)
    np.testing.assert_allclose(value, data["loss"], atol=1e-4)
    assert jax.tree.structure(found) == jax.tree.structure(gradients)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), found, gradients
    )


def test_number_of_parameters_at_full_size():
    weights = jax.eval_shape(paper_model.init_paper_weights, jax.random.key(0))
    assert sum(x.size for x in jax.tree.leaves(weights)) == 16_129_280


def test_context_order_is_meaningless_and_queries_are_alone(reference):
    data, weights, _ = reference
    x, y = (jnp.asarray(data[name][:, 0]) for name in "xy")
    apply = jax.jit(PaperTransformer(SMALL).apply)

    def predict(x, y, queries):
        return apply({"params": weights}, x, y, queries)

    found = predict(x[:37], y[:37], x[37:])
    order = jax.random.permutation(jax.random.key(0), 37)
    permuted = predict(x[:37][order], y[:37][order], x[37:])
    np.testing.assert_allclose(found, permuted, atol=1e-5)
    other = predict(x[:37], y[:37], x[37:].at[3].add(1.0))
    assert not np.allclose(found[3], other[3], atol=1e-3)
    np.testing.assert_allclose(
        np.delete(found, 3, 0), np.delete(other, 3, 0), atol=1e-6
    )


def test_learning_rates():
    """Values of specs section 3: warm-up to epoch 11, almost 0 from epoch 49 on."""
    rate = [float(paper_model.paper_learning_rate(s)) for s in (0, 99, 400, 1000, 1900)]
    np.testing.assert_allclose(rate, [8.3e-6, 1.25e-5, 2.5e-5, 5e-5, 4.3e-5], rtol=0.02)


def test_a_missing_weight_is_named():
    with pytest.raises(ValueError, match=r"encoder\.in_lin_1\.weight"):
        paper_model.from_torch({}, SMALL)
