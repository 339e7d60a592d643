"""Contexts: what is accepted, and how each bad input is refused."""

import dataclasses

import gymnasium
import numpy as np
import pytest
from gymnax.environments import spaces

import envs
import oswm

BOX = gymnasium.spaces.Box(-1.0, 1.0, (1,))


def transitions(**changes):
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(20, 3)).astype(np.float32)
    rows = envs.Transitions(
        obs=obs,
        action=rng.integers(0, 2, 20),
        reward=np.ones(20, np.float32),
        next_obs=obs + 1,
        terminated=np.zeros(20, bool),
        truncated=np.zeros(20, bool),
    )
    return dataclasses.replace(rows, **changes)


def test_discrete_actions_become_one_hot():
    context = oswm.Context.of(transitions())
    assert context.num_actions == 2 and context.action.shape == (20, 2)
    assert oswm.Context.of(transitions(), spaces.Discrete(5)).action.shape == (20, 5)
    np.testing.assert_array_equal(context.action_vector(1), [0.0, 1.0])


def test_scalars_count_as_vectors():
    rows = transitions(
        obs=np.arange(20), next_obs=np.arange(20), action=np.linspace(-1, 1, 20)
    )
    context = oswm.Context.of(rows, BOX)
    assert context.obs.shape == context.action.shape == (20, 1)
    assert context.num_actions is None


@pytest.mark.parametrize("field", ["obs", "next_obs", "reward"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite(field, value):
    array = np.array(getattr(transitions(), field))
    array.flat[7] = value
    with pytest.raises(ValueError, match=rf"^{field} must be finite"):
        oswm.Context.of(transitions(**{field: array}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reward": np.ones(19, np.float32)}, "reward must be of shape"),
        (
            {"next_obs": np.ones((20, 2), np.float32)},
            "obs and next_obs must be of the same shape",
        ),
        ({"action": np.ones(7, int)}, "action must be of shape"),
    ],
)
def test_shapes_that_disagree(changes, message):
    with pytest.raises(ValueError, match=message):
        oswm.Context.of(transitions(**changes))


def test_images():
    images = np.zeros((20, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match=r"obs must be vectors .* images"):
        oswm.Context.of(transitions(obs=images, next_obs=images))


def test_too_few_rows():
    import jax

    rows = jax.tree.map(lambda x: x[:6], transitions())
    with pytest.raises(ValueError, match=r"at least 7 rows for 3 .* got 6"):
        oswm.Context.of(rows)


@pytest.mark.parametrize("wrong", [-1, 2])
def test_discrete_actions_out_of_range(wrong):
    action = transitions().action.copy()
    action[3] = wrong
    with pytest.raises(ValueError, match=rf"action must be .* 0 \.\.\. 1, got {wrong}"):
        oswm.Context.of(transitions(action=action), gymnasium.spaces.Discrete(2))


@pytest.mark.parametrize(
    ("action", "space", "message"),
    [
        (np.linspace(-1, 1, 20), spaces.Discrete(2), "action must be integers"),
        (np.ones((20, 2)), BOX, "action must have 1 dimensions"),
        (np.ones(20, int), gymnasium.spaces.MultiBinary(2), "MultiBinary"),
        (np.ones(20, int), gymnasium.spaces.Discrete(2, start=1), "start at 0"),
    ],
)
def test_action_spaces_that_do_not_fit(action, space, message):
    with pytest.raises(ValueError, match=message):
        oswm.Context.of(transitions(action=action), space)


def test_padding_cannot_shrink():
    with pytest.raises(ValueError, match="num_rows must be at least"):
        oswm.Context.of(transitions()).pad(10)
