"""Commands that take any task and any agent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
import jaxrl_se
from benchmarks.any_task import shaped_tasks
from benchmarks.any_task.foreign_agents import PPO_RANGE, draw_settings, fits
from benchmarks.any_task.rival_environments import load_rival
from benchmarks.any_task.task_names import module_of, task_of
from benchmarks.any_task.unseen_tasks import TASKS, make
from benchmarks.synthetic.card import write_card
from envs.spaces import Spaces


def test_tasks_by_name_or_by_module():
    assert task_of("CartPole-v1") == envs.make("CartPole-v1")
    env, params = task_of("examples.tasks.inventory:make")
    assert (env.name, params.max_steps_in_episode) == ("Inventory", 60)
    assert callable(module_of("examples.tasks.inventory:make").controller)
    assert module_of("CartPole-v1") is None
    with pytest.raises(ValueError, match="cannot be imported"):
        task_of("examples.tasks.inventory:nothing")
    with pytest.raises(ValueError, match="unknown task"):
        task_of("CartPol-v1")


def test_all_unseen_tasks_can_be_made():
    assert len(TASKS) == 12
    for text in TASKS:
        Spaces.of(*make(text))


def test_settings_are_drawn_from_the_written_range():
    settings = draw_settings(24, seed=1)
    assert settings == draw_settings(24, seed=1) != draw_settings(24, seed=2)
    low, high = PPO_RANGE["learning_rate"]
    for drawn in settings:
        assert low <= drawn["learning_rate"] <= high
        assert drawn["num_envs"] * drawn["num_steps"] in PPO_RANGE["batch"]
        assert drawn["num_epochs"] in PPO_RANGE["num_epochs"]


def test_agents_fit_the_actions():
    discrete, continuous = Spaces(4, 2), Spaces(3, None, (-1.0,), (1.0,))
    kinds = ("DDQN", "PPO", "SAC", "TD3", "DDPG", "DiscreteTD3")
    assert [fits(kind, discrete) for kind in kinds] == [1, 1, 1, 0, 0, 1]
    assert [fits(kind, continuous) for kind in kinds] == [0, 1, 1, 1, 1, 0]


def test_a_card_names_starts_that_were_set_afterwards(tmp_path):
    report = jaxrl_se.read_card("Pendulum-v1")
    assert report["starts"] is not None
    write_card(tmp_path / "card.md", report)
    text = (tmp_path / "card.md").read_text()
    starts = "-0.24 to 1.16, -0.4 to 0.4, -2.2 to 2.2"
    assert f"| starts, set after that | {starts} |\n" in text
    assert "| gain of its best actions, set after that | 0.3 |\n" in text
    assert "steps in the synthetic environment |" not in text
    counted = {"starts": None, "gain": 1.0, "synthetic_steps_spent": 1234}
    write_card(tmp_path / "card.md", report | counted)
    text = (tmp_path / "card.md").read_text()
    assert "set after that" not in text
    assert "| steps in the synthetic environment | 1,234 |\n| CPU-seconds" in text


def test_a_rival_environment_computes_what_its_arrays_say(tmp_path):
    generator = np.random.default_rng(0)
    sizes = {"initial_state": (4, 32, 4), "reward": (6, 32, 1)}
    arrays = {}
    for network, (size, hidden, out) in sizes.items():
        for layer, shape in enumerate([(size, hidden), (hidden, out)]):
            name = f"CartPole-v1/{network}/Dense_{layer}"
            arrays[f"{name}/kernel"] = generator.normal(size=shape)
            arrays[f"{name}/bias"] = generator.normal(size=shape[1])
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    np.savez(tmp_path / "rival.npz", allow_pickle=False, **arrays)
    env, params = load_rival(tmp_path / "rival.npz", "CartPole-v1")
    key = jax.random.key(0)
    obs, state = env.reset(key, params)

    def network(name, x):
        layers = [f"CartPole-v1/{name}/Dense_{layer}" for layer in range(2)]
        hidden = np.maximum(
            x @ arrays[f"{layers[0]}/kernel"] + arrays[f"{layers[0]}/bias"], 0
        )
        return hidden @ arrays[f"{layers[1]}/kernel"] + arrays[f"{layers[1]}/bias"]

    noise = np.asarray(jax.random.normal(key, (4,)))
    np.testing.assert_allclose(
        state.obs, network("initial_state", noise), rtol=1e-4, atol=1e-4
    )
    _, _, reward, terminated, truncated, _ = env.step(key, state, 1, params)
    expected = network("reward", np.concatenate([np.asarray(obs), [0.0, 1.0]]))[0]
    assert reward == pytest.approx(expected, rel=1e-4)
    assert bool(terminated) and not bool(truncated)
    assert isinstance(jnp.asarray(reward), jax.Array)
    with pytest.raises(ValueError, match="no environment"):
        load_rival(tmp_path / "rival.npz", "Acrobot-v1")


def test_steps_until_a_return_is_reached():
    returns = np.array([[0.0, 5.0, 4.0], [1.0, 2.0, 3.0], [6.0, 0.0, 6.0]])
    found = shaped_tasks.steps_to(returns, np.array([10, 20, 30]), 4.5)
    np.testing.assert_array_equal(found, [20, np.inf, 10])
