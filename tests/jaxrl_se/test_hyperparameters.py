"""Sampled hyperparameters: distributions, checks, one compilation, groups."""

import jax
import numpy as np
import pytest
from probe_env import PROBES, Probe

from jaxrl_se import (
    DDQN,
    PPO,
    SAC,
    TD3,
    Choice,
    LogUniform,
    Spaces,
    Uniform,
    Varied,
    train,
)
from jaxrl_se.agents import DDPG, DiscreteTD3
from jaxrl_se.hyperparameters import vary_like_ferreira2022
from jaxrl_se.presets import liesen2024_agents, vary_like_liesen2024
from jaxrl_se.training import train_group

PROBE = Probe()
AGENT = DDQN(hidden_sizes=(8, 8), batch_size=12, learning_starts=12, discount=0.9)
VARIED = Varied.of(
    AGENT,
    learning_rate=LogUniform(1e-4, 1e-2),
    double=Choice((True, False)),
    width=LogUniform(2, 8, integer=True),
    depth=Choice((1, 2)),
    batch_size=LogUniform(4, 12, integer=True),
)
DISCRETE, CONTINUOUS = Spaces(2, 2), Spaces(2, None, (-2.0,), (2.0,))


def draws(distribution, num=20_000):
    keys = jax.random.split(jax.random.key(0), num)
    return np.asarray(jax.jit(jax.vmap(distribution.sample))(keys))


def test_log_uniform_numbers():
    sample = draws(LogUniform(1e-4, 1e-2))
    assert sample.dtype == np.float32
    assert sample.min() >= 1e-4 * 0.9999 and sample.max() <= 1e-2 * 1.0001
    fractions = (np.log(np.float64(sample)) - np.log(1e-4)) / np.log(100)
    np.testing.assert_allclose(
        np.quantile(fractions, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.02
    )


def test_log_uniform_integers_reach_both_ends_and_no_further():
    sample = draws(LogUniform(2, 8, integer=True))
    assert sample.dtype == np.int32
    found, counts = np.unique(sample, return_counts=True)
    assert found.tolist() == list(range(2, 9))
    expected = np.log(np.arange(3, 10) / np.arange(2, 9)) / np.log(9 / 2)
    np.testing.assert_allclose(counts / len(sample), expected, atol=0.015)


def test_choices_are_equally_likely():
    for values in ((0.1, 0.3, 0.5), (True, False), (1, 2, 2)):
        sample = draws(Choice(values))
        assert sample.dtype == np.asarray(jax.numpy.asarray(values)).dtype
        for value in set(values):
            share = np.mean(sample == np.asarray(value, sample.dtype))
            expected = values.count(value) / len(values)
            np.testing.assert_allclose(share, expected, atol=0.015)


@pytest.mark.parametrize(
    ("agent", "ranges", "message"),
    [
        (AGENT, {"momentum": Choice((1,))}, "momentum: DDQN has no such"),
        (AGENT, {"buffer_size": Choice((1,))}, "buffer_size: fixes the shapes of DDQN"),
        (AGENT, {"hidden_sizes": Choice((1,))}, "hidden_sizes: fixes the shapes"),
        (AGENT, {"width": Choice((4, 9))}, r"width: its range \[4, 9\] .* own 8"),
        (AGENT, {"width": Choice((0, 8))}, r"width: its range \[0, 8\]"),
        (AGENT, {"depth": Choice((1, 3))}, r"depth: its range \[1, 3\] .* own 2"),
        (AGENT, {"batch_size": Choice((13,))}, r"batch_size: .* own 12"),
        (
            AGENT.replace(hidden_sizes=(8, 4)),
            {"width": Choice((4,))},
            r"width varies only where .* \(8, 4\)",
        ),
        (PPO(), {"batch_size": Choice((10,))}, "batch_size: PPO has none"),
        (AGENT, {"discount": 0.9}, "discount: its range must be a LogUniform"),
    ],
)
def test_ranges_that_do_not_fit_are_named(agent, ranges, message):
    with pytest.raises(ValueError, match=message):
        Varied.of(agent, **ranges)


def test_distributions_that_are_none():
    with pytest.raises(ValueError, match="low must be a number above 0, got 0"):
        LogUniform(0, 1)
    with pytest.raises(ValueError, match="low <= high, got 2, 1"):
        LogUniform(2, 1)
    with pytest.raises(ValueError, match="at least 1 items"):
        Choice(())


def widths(kernel):
    """Hidden units in use, by the first kernel `[..., in, out]`."""
    return np.sum(np.any(kernel != 0, axis=-2), axis=-1)


def test_agents_draw_anew_in_one_compiled_program():
    def trained(key):
        return train(
            VARIED, PROBE, PROBES["reward by both"], key, 200, num_agents=16
        ).policy.weights

    weights = trained(jax.random.key(0))
    num_traces = len(PROBE.traces)
    again, other = trained(jax.random.key(0)), trained(jax.random.key(1))
    assert len(PROBE.traces) == num_traces
    for a, b in zip(jax.tree.leaves(weights), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)
    found = widths(weights[0]["kernel"])
    assert len(set(found.tolist())) > 2 and found.min() >= 2 and found.max() <= 8
    assert set(np.asarray(weights[1]["active"]).tolist()) == {0.0, 1.0}
    assert not np.array_equal(found, widths(other[0]["kernel"]))


def test_a_group_shares_its_draw():
    stacked = jax.tree.map(
        lambda *x: np.stack(x),
        *(PROBES[name] for name in ("constant reward", "reward by both")),
    )

    @jax.jit
    def group(key):
        return train_group(VARIED, PROBE, stacked, 0, key, num_members=2, num_steps=100)

    shapes = []
    for seed in range(4):
        weights = group(jax.random.key(seed))
        first, second = widths(weights[0]["kernel"])
        assert first == second
        active = np.asarray(weights[1]["active"])
        assert active[0] == active[1]
        assert not np.array_equal(*weights[0]["kernel"])  # they differ by their task
        shapes.append((int(first), float(active[0])))
    assert len(set(shapes)) > 1


def test_draws_vmap():
    keys = jax.random.split(jax.random.key(0), 500)
    agents = jax.vmap(VARIED.draw)(keys)
    assert agents.learning_rate.shape == (500,)
    rate = np.log10(agents.learning_rate)
    width = np.asarray(agents.variation.network.width)
    assert abs(np.corrcoef(rate, width)[0, 1]) < 0.15  # drawn independently
    assert 0.4 < np.mean(agents.double) < 0.6
    assert set(np.asarray(agents.variation.batch_size).tolist()) == set(range(4, 13))


def test_variation_of_ferreira2022():
    varied = vary_like_ferreira2022(
        DDQN(hidden_sizes=(57,), batch_size=199, learning_rate=3e-4)
    )
    ranges = dict(varied.ranges)
    assert varied.agent.hidden_sizes == (171, 171)
    assert varied.agent.batch_size == 597
    assert ranges["width"] == LogUniform(19, 171, True)
    assert ranges["batch_size"] == LogUniform(66, 597, True)
    assert ranges["depth"] == Choice((1, 1, 2))
    np.testing.assert_allclose(ranges["learning_rate"].bounds, (1e-4, 9e-4))
    varied.check(DISCRETE)
    ppo = vary_like_ferreira2022(PPO())  # has no batch size to vary
    assert set(dict(ppo.ranges)) == {"learning_rate", "width", "depth"}
    ppo.check(DISCRETE)


@pytest.mark.parametrize(
    ("agent", "spaces", "names"),
    [
        (PPO(), DISCRETE, "gae_lambda clip_ratio entropy_coef value_coef"),
        (PPO(), CONTINUOUS, "gae_lambda clip_ratio entropy_coef value_coef"),
        (SAC(), DISCRETE, "target_update_rate target_entropy_ratio"),
        (SAC(), CONTINUOUS, "target_update_rate"),
        (DDQN(), DISCRETE, "epsilon_end double"),
        (DDPG(), CONTINUOUS, "target_update_rate exploration_noise"),
        (
            TD3(),
            CONTINUOUS,
            "target_update_rate exploration_noise target_noise target_noise_clip",
        ),
    ],
)
def test_variation_of_liesen2024(agent, spaces, names):
    varied = vary_like_liesen2024(agent, spaces)
    ranges = dict(varied.ranges)
    assert set(ranges) == {"learning_rate", "discount", *names.split()}
    varied.check(spaces)
    largest = 5e-3 if isinstance(agent, PPO) and spaces is CONTINUOUS else 1e-2
    assert ranges["learning_rate"].bounds == (1e-4, largest)
    if "exploration_noise" in ranges:  # 0.1 to 0.9 of actions in [-2, 2]
        assert ranges["exploration_noise"].bounds == (0.05, 0.45)
    if type(agent) is SAC:  # two updates of ours are one of theirs
        rates = np.array(ranges["target_update_rate"].values)
        np.testing.assert_allclose((1 - rates) ** 2, [0.99, 0.95, 0.9, 0.8, 0.7])


def test_agents_of_liesen2024():
    discrete = liesen2024_agents("MountainCar-v0")
    assert list(discrete) == ["ppo", "sac", "dqn"]
    assert discrete["ppo"].agent.num_minibatches == 4
    # Updates in 10,000 steps, of which the first 1000 fill the buffer.
    for name, expected in (("sac", 3600), ("dqn", 900)):
        agent = discrete[name].agent
        steps = np.arange(10_000, dtype=np.int32)
        updates = np.asarray(jax.vmap(agent.is_due)(steps)) & (
            steps >= agent.learning_starts
        )
        assert abs(int(updates.sum()) - expected) <= 2
    continuous = liesen2024_agents("Pendulum-v1")
    assert list(continuous) == ["ppo", "sac", "ddpg", "td3"]
    assert continuous["td3"].agent.activation == "relu"
    with pytest.raises(ValueError, match="task must be one of CartPole-v1"):
        liesen2024_agents("CartPole-v0")
    with pytest.raises(ValueError, match="got DiscreteTD3"):
        vary_like_liesen2024(DiscreteTD3(), DISCRETE)
    with pytest.raises(ValueError, match="one range, got"):
        vary_like_liesen2024(TD3(), Spaces(2, None, (-1.0, -2.0), (1.0, 2.0)))


def test_uniform():
    draws = jax.vmap(Uniform(0.1, 1.0).sample)(jax.random.split(jax.random.key(0), 500))
    assert 0.1 <= draws.min() < 0.12 and 0.98 < draws.max() <= 1.0
    assert abs(draws.mean() - 0.55) < 0.05
    with pytest.raises(ValueError, match="low <= high"):
        Uniform(2.0, 1.0)
