"""Evolution on a task outside of JAX: two jitted halves, and play in between.

Agents train in the proxy, which is inside JAX, as ever; those of a reward network train
in the task, which it pays them for (`jaxrl_se.outside_training`). Their test episodes
are the task's: it gets all policies of a generation at once and steps its own
environments.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs.moments import Moments
from envs.steps import Steps
from jaxrl_runs.devices import (
    gather_objects,
    gather_shares,
    own_share,
    replicate,
    spans_processes,
)
from jaxrl_se.compiled import shared
from jaxrl_se.evaluation import Episodes
from jaxrl_se.generation import Generation, GenerationLog, Validation
from jaxrl_se.outside_task import keeps_ranges
from jaxrl_se.outside_training import train_batch
from jaxrl_se.reward_network import RewardEnv
from jaxrl_se.trials import Params, Scored, Trained, trial_of


class OutsidePrograms:
    """`Generation.step` and `Generation.validate` with the task's play in between.

    Args:
      program: The pure functions; its `task` is the one outside.
    """

    def __init__(self, program: Generation):
        self.program = program
        # Without the task, which may hold an engine that ends with it.
        pure = dataclasses.replace(program, task=None)
        self._compiled = shared("outside", pure, lambda: _Compiled(pure))

    def step(
        self, key: jax.Array, state: Any, generation: jax.Array, params: Params
    ) -> tuple[Any, GenerationLog]:
        """See `Generation.step`."""
        config = self.program.config
        algorithms: Any = range(len(config.agents))
        if config.algorithms != "mixed":
            algorithms = [int(self.program.turn(generation))]
        options = {}
        if config.horizon is not None:
            options = {"time_limit": int(config.horizon.at(generation))}
        played, played_steps, seen = [], Steps(), Moments()
        population = None
        for algorithm in algorithms:
            population, trained, policies, keys = self._proposed(
                key, state, params, algorithm
            )
            episodes, taken = self._play(
                policies, keys, config.fitness_episodes, **options
            )
            played.append((trained, episodes))
            played_steps = played_steps + taken
            if keeps_ranges(config):
                for part in self._seen():
                    seen.merge(part)
        state, log = self._compiled.conclude(key, state, population, played)
        return state, log.replace(steps=log.steps + played_steps, seen=seen)

    def validate(
        self, keys: jax.Array, weights: Any, params: Params, algorithm: int = 0
    ) -> Validation:
        """See `Generation.validate`."""
        if self._trains_outside:
            agent = self.program.config.validated_agents[algorithm]
            every = jax.tree.map(lambda x: jnp.stack([x] * len(keys)), weights)
            trained = self._train(agent, keys, every, params)
            policies, keys = self._compiled.policies(trained, keys, agent)
        else:
            trained, policies, keys = self._compiled.fresh(
                keys, weights, params, algorithm=algorithm
            )
        num_episodes = self.program.config.validation_episodes
        episodes, taken = self._play(policies, keys, num_episodes)
        score, steps = self._compiled.judge(trained, episodes)
        return Validation(policies, episodes, score, steps + taken)

    @property
    def _trains_outside(self) -> bool:
        return isinstance(self.program.env, RewardEnv)

    def _proposed(self, key: Any, state: Any, params: Params, algorithm: int) -> tuple:
        """A population, its trained agents, their policies, and keys of their play."""
        if not self._trains_outside:
            return self._compiled.propose(key, state, params, algorithm=algorithm)
        agent = self.program.config.agents[algorithm]
        population, keys = self._compiled.ask(key, state)
        num_seeds = keys.shape[1]
        weights = jax.tree.map(lambda x: jnp.repeat(x, num_seeds, axis=0), population)
        trained = self._train(agent, keys, weights, params)
        policies, keys = self._compiled.policies(trained, keys, agent)
        return population, trained, policies, keys

    def _train(self, agent: Any, keys: Any, weights: Any, params: Params) -> Trained:
        """Trains agents of keys `[...]` by rewards of weights `[their number, ...]`."""
        flat, task = keys.reshape(-1), self.program.task
        size = max(task.session.max_envs // agent.num_envs, 1)
        num_steps, found = self.program.config.train_steps, []
        for i in range(0, len(flat), size):
            part = jax.tree.map(lambda x, i=i: x[i : i + size], weights)
            reward = self.program.env, params.proxy.replace(weights=part)
            own = jax.vmap(jax.random.split)(flat[i : i + size])[:, 0]
            found.append(train_batch(agent, task, own, num_steps, reward)[0])
        learned = jax.tree.map(lambda *x: jnp.concatenate(x), *found)
        learned = jax.tree.map(lambda x: x.reshape(*keys.shape, *x.shape[1:]), learned)
        return Trained(learned, jnp.full(keys.shape, num_steps, jnp.int32))

    def _play(self, policies: Any, keys: jax.Array, num_episodes: int, **options: Any):
        task, options = self.program.task, options | {"num_axes": keys.ndim}
        if spans_processes(self.program.mesh):
            return self._play_share(policies, keys, num_episodes, options)
        played, steps = task.play(policies, keys, num_episodes, **options)
        returns = jnp.asarray(played.returns, jnp.float32)
        return Episodes(returns, jnp.asarray(played.lengths, jnp.int32)), steps

    def _play_share(self, policies: Any, keys: Any, num_episodes: int, options: dict):
        """Plays with the policies of this process, and hears of the others'."""
        number, own = len(keys), own_share(len(keys))
        policies = jax.tree.map(lambda leaf: leaf[own], jax.device_get(policies))
        keys = jax.random.key_data(keys)
        keys = jax.random.wrap_key_data(jax.device_get(keys)[own])
        played, steps = self.program.task.play(policies, keys, num_episodes, **options)
        episodes = Episodes(
            np.asarray(played.returns, np.float32),
            np.asarray(played.lengths, np.int32),
        )
        episodes = gather_shares(episodes, number)
        taken = [Steps(*one) for one in gather_objects(dataclasses.astuple(steps))]
        return episodes, sum(taken, Steps())

    def _seen(self) -> list[Moments]:
        """The observations that policies met, of each process."""
        seen = self.program.task.seen
        if not spans_processes(self.program.mesh):
            return [seen]
        content = [seen.count, seen.mean.tolist(), seen.variance.tolist()]
        found = gather_objects(content)
        return [Moments(n, *map(np.asarray, rest)) for n, *rest in found]


class _Compiled:
    """What is compiled: all that comes before play, and all that comes after it.

    Args:
      program: The pure functions, without a task.
    """

    def __init__(self, program: Generation):
        self.program = program
        self.propose = jax.jit(self._propose_and_train, static_argnames="algorithm")
        self.conclude = jax.jit(self._score_and_conclude)
        self.ask = jax.jit(self._ask)
        self.policies = jax.jit(self._policies)
        self.fresh = jax.jit(self._train_fresh, static_argnames="algorithm")
        self.judge = jax.jit(self._validated)

    def _propose_and_train(self, key, state, params, *, algorithm: int):
        program = self.program
        key_ask, key_score, _ = jax.random.split(key, 3)
        population, _ = program.propose(key_ask, state)
        keys = program.agent_keys(key_score)
        agent = program.config.agents[algorithm]
        trained = program.sharded(program.train, agent, population, keys, params)
        policies = jax.vmap(jax.vmap(partial(program.policy, agent)))(trained)
        # The keys that episodes have inside JAX: with common random numbers the
        # candidates' agents of one seed meet the same ones.
        keys = _play_keys(keys)
        shape = (program.config.population_size, program.config.num_seeds)
        policies = replicate(policies, program.mesh)
        return population, trained, policies, jnp.broadcast_to(keys, shape)

    def _ask(self, key, state):
        """A population, and keys `[P, S]` of its agents."""
        key_ask, key_score, _ = jax.random.split(key, 3)
        population, _ = self.program.propose(key_ask, state)
        config, keys = self.program.config, self.program.agent_keys(key_score)
        shape = (config.population_size, config.num_seeds)
        return population, jnp.broadcast_to(keys, shape)

    def _policies(self, trained, keys, agent):
        """Policies of trained agents `[...]`, and the keys of their episodes."""
        make = partial(self.program.policy, agent)
        for _ in range(keys.ndim):
            make = jax.vmap(make)
        return make(trained), _play_keys(keys)

    def _score_and_conclude(self, key, state, population, played):
        program = self.program
        key_ask, _, key_tell = jax.random.split(key, 3)
        _, state = program.propose(key_ask, state)
        scored = [
            jax.vmap(jax.vmap(self._score_one))(trained, episodes)
            for trained, episodes in played
        ]
        scored = jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *scored)
        state, fitness = program.conclude(key_tell, state, population, scored.scores)
        return state, GenerationLog(fitness, program.training_steps(scored))

    def _score_one(self, trained: Trained, episodes: Episodes) -> Scored:
        return self.program.score_one(trained, episodes)

    def _train_fresh(self, keys, weights, params, *, algorithm: int):
        program = self.program
        agent = program.config.validated_agents[algorithm]
        proxy = params.proxy.replace(weights=weights)

        def one(key):
            key_train, _ = jax.random.split(key)
            return program.train_one(agent, key_train, proxy, task_params=None)

        trained = jax.lax.map(one, keys)
        policies = jax.vmap(partial(program.policy, agent))(trained)
        return trained, policies, _play_keys(keys)

    def _validated(self, trained, episodes):
        program = self.program
        validated = program.config.scoring.validated
        scores = jax.vmap(lambda t, e: validated(trial_of(t, e)))(trained, episodes)
        scored = jax.vmap(self._score_one)(trained, episodes)
        return jnp.mean(scores), program.training_steps(scored)


def _play_keys(keys: jax.Array) -> jax.Array:
    """Of agents' keys `[...]` those for playing, as `Trials` splits them."""
    split = jax.random.split
    for _ in range(keys.ndim):
        split = jax.vmap(split)
    return split(keys)[..., 1]
