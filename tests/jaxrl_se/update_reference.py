"""Updates of actor-critic agents written in NumPy, without autodiff, in float64.

Gradients are central differences of the losses; distributions are SciPy's.
"""

import jax
import numpy as np


def arrays(weights):
    """The leaves of weights: bias and kernel of each layer of each network."""
    return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(weights)]


def mlp(layers, x):
    """A network with one hidden layer of tanh; kernels are [in, out] and [out, in]."""
    bias, kernel, out_bias, out_kernel = layers
    return np.tanh(x @ kernel + bias) @ out_kernel.T + out_bias


def gradient(loss, weights):
    """The gradient of a loss of a list of arrays."""
    grads = [np.zeros_like(w) for w in weights]
    for w, grad in zip(weights, grads, strict=True):
        for index in np.ndindex(w.shape):
            kept, sides = w[index], []
            for step in (1e-6, -1e-6):
                w[index] = kept + step
                sides.append(loss(weights))
            w[index] = kept
            grad[index] = (sides[0] - sides[1]) / 2e-6
    return grads


class Adam:
    """Kingma and Ba (2015), algorithm 1."""

    def __init__(self, weights, learning_rate):
        self.learning_rate = learning_rate
        self.time = 0
        self.first = [np.zeros_like(w) for w in weights]
        self.second = [np.zeros_like(w) for w in weights]

    def step(self, weights, grads):
        """Weights after one step."""
        self.time += 1
        result = []
        for i, (w, grad) in enumerate(zip(weights, grads, strict=True)):
            self.first[i] = 0.9 * self.first[i] + 0.1 * grad
            self.second[i] = 0.999 * self.second[i] + 0.001 * grad**2
            first = self.first[i] / (1 - 0.9**self.time)
            second = self.second[i] / (1 - 0.999**self.time)
            result.append(w - self.learning_rate * first / (np.sqrt(second) + 1e-8))
        return result


def towards(target, online, rate):
    """Target weights after Polyak averaging."""
    return [(1 - rate) * t + rate * w for t, w in zip(target, online, strict=True)]
