"""Encoder and heads: their weights, and what a method computes of views with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import struct

from hardviews.methods import check_heads
from hardviews.networks import ResNet
from hardviews.selection import pair_losses

if TYPE_CHECKING:
    from hardviews.training import PretrainConfig


@struct.dataclass
class Weights:
    """A network: what gradients change, and moving averages of batch norm.

    Attributes:
        params: By "encoder" and the names of the heads.
        stats: The same.
    """

    params: dict
    stats: dict


def make_networks(config: PretrainConfig) -> dict[str, Any]:
    """Encoder and heads by name.

    Raises:
        ValueError: The heads are no dictionary of modules that are called `(x, train)`.
    """
    heads = config.method.heads(config.encoder)
    check_heads(heads)
    return {"encoder": ResNet(config.encoder), **heads}


def _network(networks: dict[str, Any], name: Any) -> Any:
    """The network of a name.

    Raises:
        ValueError: There is none.
    """
    if name not in networks:
        raise ValueError(
            f"apply must be given one of {', '.join(map(repr, networks))}, got {name!r}"
        )
    return networks[name]


def initial_weights(config: PretrainConfig, key: jax.Array) -> Weights:
    """Encoder and heads before the first step.

    Args:
        config: Settings.
        key: A PRNG key.

    Raises:
        ValueError: As of `hardviews.training.start`.
    """
    networks = make_networks(config)
    inputs = _inputs(config, networks)
    params, stats = {}, {}
    for (name, network), part in zip(
        networks.items(), jax.random.split(key, len(networks)), strict=True
    ):
        x = jnp.zeros(inputs[name].shape, inputs[name].dtype)
        found = network.init(part, x, False)
        params[name] = found.get("params", {})
        stats[name] = found.get("batch_stats", {})
    return Weights(params, stats)


def _inputs(config: PretrainConfig, networks: dict[str, Any]) -> dict[str, Any]:
    """What each network is applied to, by following the method with two pictures.

    Nothing is computed: only shapes are.
    """
    found: dict[str, Any] = {}
    method = config.method

    def apply(name: str, x: Any, target: bool = False) -> Any:
        network = _network(networks, name)
        _check_target(config, target)
        if name in found and found[name].shape[1:] != jnp.shape(x)[1:]:
            raise ValueError(
                f"heads[{name!r}] must be applied to inputs of one shape, got "
                f"{found[name].shape} and {jnp.shape(x)}"
            )
        found.setdefault(name, jax.ShapeDtypeStruct(jnp.shape(x), x.dtype))
        return network.init_with_output(jax.random.key(0), x, False)[0]

    def follow(views: jax.Array) -> Any:
        outputs = method.outputs(apply, views)
        return pair_losses(method.pair_loss, outputs, outputs)

    side = config.view_size
    jax.eval_shape(follow, jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32))
    left_out = [name for name in networks if name not in found]
    if left_out:
        raise ValueError(
            f"outputs must apply every head, got one that never applies "
            f"{', '.join(map(repr, left_out))}"
        )
    return found


def _check_target(config: PretrainConfig, target: bool) -> None:
    if target and config.method.target_rate is None:
        raise ValueError(
            "outputs must not ask for the slow copy (target=True) of a method whose "
            "target_rate is None"
        )


def outputs_of(
    config: PretrainConfig,
    weights: Weights,
    target: Weights | None,
    views: jax.Array,
) -> tuple[Any, dict]:
    """What the views of a batch are compared by, each view normalised by itself.

    Args:
        config: Settings.
        weights: Of the network.
        target: Of its slow copy.
        views: Standardised, `[V, B, S, S, 3]`.

    Returns:
        The method's outputs, leaves `[V, B, ...]`, and moving averages of batch norm.
    """
    networks = make_networks(config)

    def one(views):
        stats = dict(weights.stats)

        def apply(name, x, *, target_=False):
            network = _network(networks, name)
            _check_target(config, target_)
            source = target if target_ else weights
            assert source is not None
            variables = {"params": source.params[name]}
            if source.stats[name]:
                variables["batch_stats"] = source.stats[name]
            out, new = network.apply(variables, x, True, mutable=["batch_stats"])
            if not target_:
                stats[name] = new.get("batch_stats", {})
            return out

        outputs = config.method.outputs(
            lambda name, x, target=False: apply(name, x, target_=target), views
        )
        return outputs, stats

    # Shared weights: a convolution over all views, whose moments are their own.
    outputs, stats = jax.vmap(one)(views)
    return outputs, jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), stats)
