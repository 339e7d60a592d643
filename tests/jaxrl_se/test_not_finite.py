"""NaN in a task is said, in whatever is done with it."""

import dataclasses
import math
import warnings

import jax
import numpy as np
import pytest

import envs
import jaxrl_se
from benchmarks.bad_values.broken_tasks import Corridor, NanObs, NanRewards
from jaxrl_se import DDQN, BestResponse, EvolutionConfig, SyntheticConfig

AGENT = DDQN(hidden_sizes=(4,), buffer_size=16, batch_size=4, learning_starts=4)


@pytest.mark.parametrize("env", [NanRewards(), NanObs()])
def test_training_and_testing_say_it(env):
    what = "observations" if isinstance(env, NanObs) else "rewards"
    with pytest.warns(RuntimeWarning, match=f"weights are NaN.*{what} of task"):
        trained = jaxrl_se.train(AGENT, (env, 3.0), 0, 40)
    assert np.isnan(np.asarray(jax.tree.leaves(trained.policy)[0])).any()
    with pytest.warns(RuntimeWarning, match=r"gave NaN.* in 2 of 2 episodes"):
        jaxrl_se.evaluate(lambda obs, key: 0, (env, 3.0), 0, 2)
    with pytest.raises(ValueError, match=r"must be finite numbers, found NaN"):
        envs.collect(env, 3.0, 12, 0)


def test_several_agents_and_divergence_are_told_apart():
    wild = dataclasses.replace(AGENT, learning_rate=1.0, max_grad_norm=1e38)
    huge = Corridor()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jaxrl_se.train(AGENT, (huge, 3.0), 0, 40, num_agents=2)
    with pytest.warns(RuntimeWarning, match="weights of 2 of 2 policies are NaN"):
        jaxrl_se.train(wild, (NanRewards(), 3.0), 0, 40, num_agents=2)


def test_evolution_says_it():
    config = EvolutionConfig(
        proxy=SyntheticConfig(hidden_sizes=(4,)),
        agent=BestResponse((4,)),
        train_steps=1,
        population_size=4,
        num_seeds=1,
        max_generations=1,
        validation_every=2,
        validation_agents=1,
        validation_episodes=1,
        group_size=2,
        stop_return=math.inf,  # nothing is validated
    )
    with pytest.warns(
        RuntimeWarning, match="all 4 fitnesses of generation 1 .*rewards"
    ):
        jaxrl_se.evolve((NanRewards(), 3.0), config, progress=False)
