"""Agents of a generation: trained in their candidates, tested on the task, scored.

Nothing here knows which agent, proxy, scoring rule or task it holds. Params of task and
proxy are arguments: one program serves a family.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import Mesh

from envs.spaces import Spaces
from envs.steps import StepKind, Steps, kind_of_steps
from jaxrl_runs.devices import on_accelerator, shard
from jaxrl_se.config import EvolutionConfig
from jaxrl_se.evaluation import Episodes, play
from jaxrl_se.networks import Weights
from jaxrl_se.scoring import Trial
from jaxrl_se.training import train_once


@struct.dataclass
class Params:
    """What the programs of an evolution are called with.

    Attributes:
      task: Params of the task.
      proxy: Params of the proxy; the weights among them are not looked at.
    """

    task: Any
    proxy: Any


@struct.dataclass
class Trained:
    """Agents after training; leading axes are the caller's.

    Attributes:
      weights: Their policies' weights.
      steps: int32, training steps of each.
      tests: The tests that the scoring rule asked for, or None.
    """

    weights: Weights
    steps: jax.Array
    tests: Any = None


@struct.dataclass
class Scored:
    """Scores of agents and what they took; leading axes are the caller's.

    Attributes:
      scores: float32 `[..., K]`.
      train_steps: int32 `[...]`, steps in the proxy.
      task_steps: int32 `[...]`, steps in the task.
    """

    scores: jax.Array
    train_steps: jax.Array
    task_steps: jax.Array


@dataclasses.dataclass(frozen=True)
class Trials:
    """How the agents of a generation are trained and scored.

    Attributes:
      env: The proxy.
      task: The task's environment, or a task outside JAX.
      kind: What a step of the task is.
      spaces: The spaces of both.
      config: Sizes and budgets.
      mesh: The devices over which the population is sharded.
    """

    env: Any
    task: Any
    kind: StepKind
    spaces: Spaces
    config: EvolutionConfig
    mesh: Mesh

    def agent_keys(self, key: jax.Array) -> jax.Array:
        """Keys of the agents: `[S]` that candidates share, or `[P, S]`."""
        shape: tuple[int, ...] = (self.config.num_seeds,)
        if not self.config.common_random_numbers:
            shape = (self.config.population_size, *shape)
        return jax.random.split(key, shape)

    def steps(self, scored: Scored) -> Steps:
        """What agents took, by where they took it."""
        in_task = Steps.of(self.kind, jnp.sum(scored.task_steps))
        return self.training_steps(scored) + in_task

    def training_steps(self, scored: Scored) -> Steps:
        """What agents took in the proxy."""
        return Steps.of(kind_of_steps(self.env), jnp.sum(scored.train_steps))

    def sharded(self, fn: Any, agent: Any, population: Weights, keys: Any, params: Any):
        """`fn(agent, population, keys, params)`, each device with its candidates."""
        num_sharded = 1 if self.config.common_random_numbers else 2
        fn = shard(partial(fn, agent), self.mesh, num_sharded=num_sharded)
        return fn(population, keys, params)

    def _trials(
        self, agent: Any, population: Weights, keys: jax.Array, params: Params
    ) -> Scored:
        """Trains and scores the agents of `[P]` candidates; arrays `[P, S, ...]`."""

        def one_seed(keys):
            key_train, key_play = self._split(keys)
            trained = self._train(agent, population, key_train, params)
            return self._score(agent, trained, key_play, params)

        return self._over_seeds(one_seed, keys)

    def train(
        self, agent: Any, population: Weights, keys: jax.Array, params: Params
    ) -> Trained:
        """Only trains the agents; arrays `[P, S, ...]`."""

        def one_seed(keys):
            return self._train(agent, population, self._split(keys)[0], params)

        return self._over_seeds(one_seed, keys)

    def _split(self, keys: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Keys to train and to play with, of a key or of `[P]` ones."""
        if keys.ndim == 0:
            key_train, key_play = jax.random.split(keys)
            return key_train, key_play
        both = jax.vmap(jax.random.split)(keys)
        return both[:, 0], both[:, 1]

    def _over_seeds(self, one_seed: Any, keys: jax.Array) -> Any:
        # Not 1: under a `vmap` of one, `while_loop` and `cond` copy what they carry.
        batch_size = self.config.num_seeds if on_accelerator(self.mesh) else None
        keys = jnp.moveaxis(keys, -1, 0)
        outputs = jax.lax.map(one_seed, keys, batch_size=batch_size)
        return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), outputs)

    def _train(
        self, agent: Any, population: Weights, keys: jax.Array, params: Params
    ) -> Trained:
        """Trains one agent per candidate with a key for all or one for each."""
        num_local = jax.tree.leaves(population)[0].shape[0]
        accelerator = on_accelerator(self.mesh)
        is_tested = self.config.scoring.task_test(self.task, params.task) is not None
        if keys.ndim == 0 and not is_tested:
            size = self.config.group_of(num_local, accelerator)
            axes = self.env.population_axes(params.proxy)
            groups = jax.tree.map(
                lambda leaf: leaf.reshape(-1, size, *leaf.shape[1:]), population
            )

            def train_together(weights):
                proxy = params.proxy.replace(weights=weights)
                one = partial(self.train_one, agent, keys, task_params=params.task)
                return jax.vmap(one, (axes,), axis_size=size)(proxy)

            trained = jax.lax.map(train_together, groups)
            return jax.tree.map(
                lambda leaf: leaf.reshape(num_local, *leaf.shape[2:]), trained
            )

        def train_alone(candidate):
            weights, own_key = candidate
            proxy = params.proxy.replace(weights=weights)
            key = keys if own_key is None else own_key
            return self.train_one(agent, key, proxy, task_params=params.task)

        return jax.lax.map(
            train_alone,
            (population, keys if keys.ndim else None),
            batch_size=num_local if accelerator else None,
        )

    def train_one(
        self, agent: Any, key: jax.Array, proxy_params: Any, *, task_params: Any
    ) -> Trained:
        """Trains one agent on one candidate."""
        trained = train_once(
            agent,
            self.env,
            proxy_params,
            key,
            spaces=self.spaces,
            num_steps=self.config.train_steps,
            stop=self.config.stop,
            test=self.config.scoring.task_test(self.task, task_params),
        )
        last = jax.tree.map(lambda leaf: leaf[-1], trained.weights)
        return Trained(last, trained.steps, trained.tests)

    def _score(
        self, agent: Any, trained: Trained, keys: jax.Array, params: Params
    ) -> Scored:
        """Tests and scores `[P]` agents with a key for all or one for each."""

        def one(trained, key):
            policy = self.policy(agent, trained)
            num_episodes = self.config.fitness_episodes
            episodes = play(policy, self.task, params.task, key, num_episodes)
            return self.score_one(trained, episodes)

        return jax.vmap(one, (0, 0 if keys.ndim else None))(trained, keys)

    def policy(self, agent: Any, trained: Trained) -> Any:
        """The policy of a trained agent that is tested."""
        return self.config.scoring.policy(agent, self.spaces, trained.weights)

    def score_one(self, trained: Trained, episodes: Episodes) -> Scored:
        """Scores one agent by its test episodes, arrays `[E]`."""
        trial = trial_of(trained, episodes)
        task_steps = jnp.sum(episodes.lengths)
        if trained.tests is not None:
            task_steps = task_steps + trained.tests.real_steps
        scores = self.config.scoring.scores(trial)
        return Scored(scores, trained.steps, task_steps)


def trial_of(trained: Trained, episodes: Episodes) -> Trial:
    """What a scoring rule sees of an agent."""
    leaves = jax.tree.leaves(trained.weights)
    is_finite = jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]).all()
    return Trial(episodes, trained.steps, is_finite, trained.tests)
