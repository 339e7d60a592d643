"""Shipped environments by ids of Gymnasium."""

import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import envs
import jaxrl_se


def test_every_shipped_environment_has_an_id():
    ids = {i for i in gymnasium.registry if i.startswith("jaxrl_se/")}
    assert ids == {f"jaxrl_se/{name}" for name, _ in jaxrl_se.available()}


@pytest.mark.parametrize(
    "options", [{}, {"variant": "multi-step"}], ids=["default", "multi-step"]
)
def test_made_ones_are_the_loaded_ones(options):
    made = gymnasium.make("jaxrl_se/CartPole-v1", **options)
    env, params = jaxrl_se.load("CartPole-v1", **options)
    ours = envs.GymnasiumEnv(env, params)
    np.testing.assert_array_equal(made.reset(seed=3)[0], ours.reset(seed=3)[0])
    np.testing.assert_array_equal(made.step(1)[0], ours.step(1)[0])
    vector = gymnasium.make_vec("jaxrl_se/CartPole-v1", 3, **options)
    assert isinstance(vector.unwrapped, envs.GymnasiumVectorEnv)
    obs, _ = vector.reset(seed=3)
    np.testing.assert_allclose(obs[0], ours.reset(seed=3)[0], rtol=1e-5)


def test_it_passes_gymnasiums_checker():
    check_env(gymnasium.make("jaxrl_se/Pendulum-v1").unwrapped, skip_render_check=True)


def test_the_autoreset_mode_of_copies():
    vector = gymnasium.make_vec(
        "jaxrl_se/CartPole-v1", 2, autoreset_mode=AutoresetMode.NEXT_STEP
    )
    assert vector.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP


def test_the_module_before_the_id_is_imported():
    """And with it nothing that takes a second and is for pictures alone."""
    code = (
        "import gymnasium, sys; "
        "env = gymnasium.make('jaxrl_se:jaxrl_se/Acrobot-v1'); "
        "print(env.reset(seed=0)[0].shape, "
        "[x for x in ('seaborn', 'pandas', 'scipy.stats') if x in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "(6,) []", done.stderr
