"""Cliff against its description, cell by cell."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs

ENV, PARAMS = envs.make("Cliff")
RIGHT, LEFT, DOWN, UP = range(4)


def walk(actions):
    """Positions, rewards and flags of a walk from the start."""
    key = jax.random.key(0)
    state = ENV.reset(key, PARAMS)[1]
    rows = []
    for action in actions:
        obs, state, reward, terminated, info = ENV.step_env(key, state, action, PARAMS)
        assert obs.shape == (48,) and obs.sum() == 1 and info == {}
        rows.append((int(obs.argmax()), float(reward), bool(terminated)))
    return rows


def test_golden_path():
    """Made with the code of Ferreira et al. (2022): up, eleven times right, down."""
    positions, rewards, ends = zip(*walk([UP] + [RIGHT] * 11 + [DOWN]), strict=True)
    assert positions == (24, *range(25, 36), 47)
    assert sum(rewards) == -12 and ends == (False,) * 12 + (True,)


def test_every_move():
    """All cells and actions, against the description in plain Python."""
    rows, columns = np.divmod(np.arange(48), 12)

    def step(position, action):
        state = ENV.reset(jax.random.key(0), PARAMS)[1].replace(position=position)
        obs, _, reward, end, _ = ENV.step_env(jax.random.key(0), state, action, PARAMS)
        return obs.argmax(), reward, end

    found = jax.vmap(lambda p: jax.vmap(lambda a: step(p, a))(jnp.arange(4)))(
        jnp.arange(48)
    )
    for position in range(48):
        for action, (down, right) in enumerate(((0, 1), (0, -1), (1, 0), (-1, 0))):
            row = min(max(rows[position] + down, 0), 3)
            column = min(max(columns[position] + right, 0), 11)
            cell = row * 12 + column
            is_cliff = row == 3 and 1 <= column <= 10
            reward = 0 if cell == 47 else -100 if is_cliff else -1
            expected = (cell, reward, is_cliff or cell == 47)
            assert tuple(x[position, action] for x in found) == expected


def test_time_limit_truncates():
    key = jax.random.key(0)
    state = ENV.reset(key, PARAMS)[1]
    for _ in range(50):
        _, state, reward, terminated, truncated, _ = ENV.step(key, state, LEFT, PARAMS)
        assert reward == -1 and not terminated
    assert truncated


def test_one_hot_space():
    space = ENV.observation_space(PARAMS)
    assert isinstance(space, envs.OneHot) and space.n == 48
    sample = space.sample(jax.random.key(0))
    assert space.contains(sample)
    assert not space.contains(0 * sample) and not space.contains(0.5 * sample)
    assert envs.solved_return("Cliff") == -20.0
    with pytest.raises(ValueError, match="Cliff"):
        envs.make("Clif")
