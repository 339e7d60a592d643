"""The command for world models of tasks outside JAX, as far as it is cheap."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

import envs
import jaxrl_se
from benchmarks.external import worlds
from benchmarks.external.simple_play import Constant
from benchmarks.logs import offline_rl


@pytest.fixture
def task():
    opened = envs.external("Pendulum-v1", engine="gymnasium")
    yield opened
    opened.close()


def test_bad_options():
    with pytest.raises(ValueError, match="--rows must be at least 1, got 0"):
        worlds.Options("Hopper-v5", rows=0)
    with pytest.raises(ValueError, match=r"--models and --inside .* got \['rige'\]"):
        worlds.Options("Hopper-v5", inside="rige")


@pytest.mark.slow  # three models and an agent, compiled for one log
def test_errors_and_returns_of_one_log(task, tmp_path, monkeypatch):
    config = jaxrl_se.SyntheticConfig(
        hidden_sizes=(), activation="tanh", initial_states="normal", reward_bound=2.0
    )
    env = config.build(task.spaces)
    jaxrl_se.save(tmp_path / "env.npz", env, env.default_params)
    options = worlds.Options(
        "Pendulum-v1",
        kind="half",
        rows=400,
        models=("persistence", "ridge"),
        episodes=2,
        offline=("IQL",),
        expert=tmp_path / "env.npz",
    )

    class Offline:
        """d3rlpy's side: full torque, and what it was given."""

        cpu_seconds = 3.0
        closed = False

        def act(self, obs):
            assert isinstance(obs, np.ndarray) and obs.shape == (1, 3)
            return np.full((1, 1), 2.0, np.float32)

        def close(self):
            self.closed = True

    agent = Offline()
    given = []
    monkeypatch.setattr(
        offline_rl.OfflineAgent, "trained", lambda *args: given.append(args) or agent
    )
    trained = SimpleNamespace(policy=Constant(jnp.zeros((2, 1))))
    train = jaxrl_se.train

    def fake(agent, *args, **options):
        return trained if "num_agents" in options else train(agent, *args, **options)

    monkeypatch.setattr(worlds.jaxrl_se, "train", fake)
    options = worlds.dataclasses.replace(options, python=tmp_path, inside="ridge")
    found = worlds.measure(options, task)
    # Ridge knows the speed's change and most of the angle's; staying knows neither.
    for kind in ("random", "half"):
        known = found["errors"]["ridge"][kind]
        limit = {"random": 1.0, "half": 0.5}[kind]  # half is what it was given
        assert known < limit * found["errors"]["persistence"][kind]
    returns = found["returns"]
    assert np.shape(returns["SAC in ridge"]) == (2, 2)
    # Each agent plays its own whole episodes: hanging down costs about pi^2 a step.
    assert np.unique(returns["SAC in ridge"]).size == 4
    assert -2000 < np.min(returns["SAC in ridge"]) < -500
    assert len(returns["d3rlpy IQL"]) == 2 and agent.closed
    assert found["cpu_seconds"]["d3rlpy IQL"] == 3.0
    log = given[0][1]
    assert len(log.reward) == 400 and given[0][3] == "IQL"
    assert np.isin(np.asarray(log.truncated), (0, 1)).all()
