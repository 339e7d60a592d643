"""The reference code's deterministic fill, for golden vectors made with it."""

import jax
import numpy as np


def sine_weights(network, scale=0.1, first=0):
    """Weights of an `MLP`: tensor j (kernel, bias, ...) is scale * sin(k + 1 + 100 j).

    PyTorch's kernels are `[out, in]` and k runs over them in that order.
    """
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    layers = []
    for index, layer in enumerate(shapes):
        is_output = index == len(shapes) - 1
        shape = layer["kernel"].shape
        j = first + 2 * index
        kernel = _fill(j, shape if is_output else shape[::-1], scale)
        bias = _fill(j + 1, layer["bias"].shape, scale)
        layers.append({"kernel": kernel if is_output else kernel.T, "bias": bias})
    return tuple(layers)


def _fill(j, shape, scale):
    k = np.arange(np.prod(shape))
    return (scale * np.sin(k + 1 + 100 * j)).reshape(shape).astype(np.float32)
