"""Names of other libraries, given as keywords, and what the message says."""

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
import finetune
import jaxrl_se
import oswm
from jaxrl_runs.keywords import hint

DDQN = jaxrl_se.DDQN()


@pytest.mark.parametrize(
    ("call", "meant"),
    [
        (lambda: jaxrl_se.DDQN(gamma=0.9), "'discount'"),
        (lambda: DDQN.replace(lr=0.1), "'learning_rate'"),
        (lambda: dataclasses.replace(DDQN, net_arch=(8,)), "'hidden_sizes'"),
        (lambda: jaxrl_se.PPO(n_steps=8), "'rollout_steps'"),
        (lambda: jaxrl_se.PPO(num_steps=8), "'rollout_steps'"),
        (lambda: jaxrl_se.PPO(batch_size=8), "'num_minibatches' .*counts samples"),
        (lambda: jaxrl_se.SAC(ent_coef=0.1), "'initial_temperature'"),
        (lambda: jaxrl_se.TD3(policy_frequency=2), "'policy_delay'"),
        (lambda: jaxrl_se.EvolutionConfig(popsize=8), "'population_size'"),
        (lambda: jaxrl_se.train(DDQN, "CartPole-v1", 0, total_timesteps=9), "num_st"),
        (lambda: jaxrl_se.train(DDQN, "CartPole-v1", 0, 9, n_seeds=2), "'num_agents'"),
        (lambda: jaxrl_se.train(DDQN, "CartPole-v1", 0, 9, gamma=1), r"DDQN\(discount"),
        (lambda: jaxrl_se.evaluate(DDQN, "CartPole-v1", n_eval_episodes=9), "num_epis"),
        (lambda: jaxrl_se.evolve("CartPole-v1", seed=0), "'key'"),
        (lambda: jaxrl_se.solve("log.npz", batch_size=8), r"DDQN\(batch_size=...\)"),
        (lambda: oswm.condition("log.npz", max_episode_steps=9), "'max_steps'"),
        (lambda: envs.Transitions(observations=0), "'obs'"),
        (lambda: envs.collect("CartPole-v1", num_steps=9), "num_transitions"),
        (lambda: finetune.Float("lr", min=0, max=1), "'low'"),
        (lambda: finetune.Tuner(spcae=None), "'space'"),
        (
            lambda: jaxrl_se.Varied.of(DDQN, gamma=jaxrl_se.Uniform(0.9, 0.99)),
            "'discount'",
        ),
    ],
)
def test_the_argument_that_was_meant_is_named(call, meant):
    with pytest.raises(
        (TypeError, ValueError), match=f"did you mean|belongs to|{meant}"
    ):
        call()
    with pytest.raises((TypeError, ValueError), match=meant):
        call()


def test_what_is_like_nothing_lists_what_there_is():
    assert hint("xyzzy", ["discount"]) == ""
    with pytest.raises(TypeError, match=r"keyword argument 'xyzzy' \(it takes num_nei"):
        oswm.NearestNeighbours(xyzzy=1)


def test_signatures_and_positions_are_as_before():
    assert next(iter(inspect.signature(oswm.condition).parameters)) == "log"
    assert oswm.condition.__doc__ and oswm.NearestNeighbours(3).num_neighbours == 3
    with pytest.raises(TypeError, match="positional"):
        oswm.NearestNeighbours(1, 2)


def test_numbers_that_no_rule_allows_are_refused_where_they_are_written():
    for call, message in (
        (lambda: jaxrl_se.DDQN(learning_rate="1e-3"), "DDQN.learning_rate must be"),  # type: ignore
        (lambda: jaxrl_se.SAC(buffer_size=-1), "SAC.buffer_size must be"),
        (lambda: jaxrl_se.PPO(hidden_sizes=(8, 0)), r"PPO.hidden_sizes\[1\] must be"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    agent = jaxrl_se.DDQN(learning_rate=0.1)
    rates = jax.vmap(lambda x: jaxrl_se.DDQN(learning_rate=x).learning_rate)
    assert np.shape(rates(jnp.ones(3))) == (3,)
    assert jax.tree.map(lambda _: 0, agent).learning_rate == 0  # of vmap, say
