"""One generation of evolution as one jitted program, and its validation.

`ask -> train a fresh agent per candidate and seed -> evaluate on the task -> tell`.
Nothing here knows which agent or which proxy it holds.
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
from jaxrl_runs.devices import map_agents, on_accelerator, shard
from jaxrl_se.config import EvolutionConfig
from jaxrl_se.evaluation import Episodes, play
from jaxrl_se.networks import Weights
from jaxrl_se.reward_network import RewardEnv, check_shaping
from jaxrl_se.scoring import FinalReturn
from jaxrl_se.strategies import Strategy, make_strategy
from jaxrl_se.training import train_group, train_once


@struct.dataclass
class GenerationLog:
    """What one generation reports.

    Attributes:
      fitness: float32 `[P]`, mean score per candidate; NaN for a failed one.
      real_steps: int32 scalar, steps taken in the real task.
    """

    fitness: jax.Array
    real_steps: jax.Array


@dataclasses.dataclass(frozen=True, eq=False)
class Generation:
    """The pure functions of an evolution, closed over its static parts.

    Attributes:
      env: The proxy whose `params.weights` evolve.
      params: Its params.
      task: The real task's environment.
      task_params: Its params.
      spaces: The spaces of both.
      config: Sizes and budgets.
      mesh: The devices over which the population is sharded.
      strategy: The evolution strategy.
    """

    env: Any
    params: Any
    task: Any
    task_params: Any
    spaces: Spaces
    config: EvolutionConfig
    mesh: Mesh
    strategy: Strategy

    @classmethod
    def build(
        cls, task: Any, proxy: Any, config: EvolutionConfig, mesh: Mesh
    ) -> Generation:
        """Checks that the parts fit together.

        Raises:
          ValueError: The population does not divide over the mesh, the agent cannot act
            in the task, or the proxy's spaces are not the task's.
        """
        env, params = proxy
        num_devices = mesh.devices.size
        if config.population_size % num_devices:
            raise ValueError(
                "population_size must be divisible by the mesh's number of devices "
                f"({num_devices}), got {config.population_size}"
            )
        config.group_of(config.population_size // num_devices, on_accelerator(mesh))
        spaces = Spaces.of(*task)
        for agent in config.agents:
            agent.check(spaces)
            check_shaping(params, agent)
        if config.horizon is not None and not hasattr(task[1], "max_steps_in_episode"):
            raise ValueError(
                "horizon: the task's params have no max_steps_in_episode to change"
            )
        if Spaces.of(env, params) != spaces:
            raise ValueError(
                "proxy: its spaces differ from the task's: "
                f"{Spaces.of(env, params)} against {spaces}"
            )
        strategy = make_strategy(
            config.strategy,
            config.population_size,
            params.weights,
            std=config.std,
            learning_rate=config.learning_rate,
        )
        return cls(env, params, task[0], task[1], spaces, config, mesh, strategy)

    def init(self, key: jax.Array) -> Any:
        """The strategy's state, its mean at freshly drawn weights."""
        key_init, key_strategy = jax.random.split(key)
        state = self.strategy.init(key_strategy, self.env.init_weights(key_init))
        # A restored state has no weak types: with them `step` would be another program.
        return jax.tree.map(
            lambda leaf: jax.lax.convert_element_type(leaf, jnp.asarray(leaf).dtype),
            state,
        )

    def step(
        self, key: jax.Array, state: Any, generation: jax.Array
    ) -> tuple[Any, GenerationLog]:
        """Runs one generation.

        Args:
          key: This generation's key.
          state: The strategy's state.
          generation: int32, its number, from 0.

        Returns:
          The next state and a log.
        """
        config = self.config
        key_ask, key_score, key_tell = jax.random.split(key, 3)
        population, state = self.strategy.ask(key_ask, state)
        shape: tuple[int, ...] = (config.num_seeds,)
        if not config.common_random_numbers:
            shape = (config.population_size, *shape)
        keys = jax.random.split(key_score, shape)
        task_params = self.task_params
        if config.horizon is not None:
            limit = config.horizon.at(generation)
            task_params = task_params.replace(max_steps_in_episode=limit)
        is_final = isinstance(config.scoring, FinalReturn)
        score = self._score if is_final else self._score_training
        num_sharded = 1 if config.common_random_numbers else 2
        scores = [
            shard(partial(score, agent), self.mesh, num_sharded=num_sharded)
            for agent in config.agents
        ]
        if config.algorithms != "mixed":
            turn = generation % len(scores)
            if config.algorithms == "stages":
                turn = jnp.sum(generation >= jnp.asarray(config.stages, jnp.int32))
            episodes = jax.lax.switch(turn, scores, population, keys, task_params)
        else:
            each = [score(population, keys, task_params) for score in scores]
            episodes = jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *each)
        returns = episodes.returns
        if isinstance(config.scoring, FinalReturn):
            returns = config.scoring.floored(returns)
        fitness = jnp.mean(returns, axis=(1, 2))
        is_finite = jnp.stack(
            [
                jnp.all(jnp.isfinite(leaf), axis=tuple(range(1, leaf.ndim)))
                for leaf in jax.tree.leaves(population)
            ]
        ).all(axis=0)
        fitness = jnp.where(is_finite & jnp.isfinite(fitness), fitness, jnp.nan)
        state = self.strategy.tell(key_tell, population, fitness, state)
        num_trained = episodes.lengths.shape[0] * episodes.lengths.shape[1]
        real_steps = jnp.sum(episodes.lengths) + self.real_training_steps(num_trained)
        return state, GenerationLog(fitness, real_steps)

    def real_training_steps(self, num_agents: int) -> int:
        """Steps in the real task, at most, that training adds to those of episodes.

        Agents train in the task itself where the proxy is a reward network. A scoring
        rule that looks at the whole training counts its steps already.
        """
        is_counted = not isinstance(self.config.scoring, FinalReturn)
        if is_counted or not isinstance(self.env, RewardEnv):
            return 0
        return num_agents * self.config.train_steps

    def _score(
        self, agent: Any, population: Weights, keys: jax.Array, task_params: Any
    ) -> Episodes:
        """Trains and evaluates `[P]` candidates with shared or with their own keys.

        Args:
          agent: The inner agent.
          population: Candidates.
          keys: `[S]` keys that candidates share, or `[P, S]`.
          task_params: Params of the real task.

        Returns:
          `Episodes` with arrays `[P, S, fitness_episodes]`.
        """
        config = self.config
        num_local = jax.tree.leaves(population)[0].shape[0]
        accelerator = on_accelerator(self.mesh)
        spaces = self.spaces
        axes = self.env.population_axes(self.params)

        def train_together(key):
            size = config.group_of(num_local, accelerator)

            def train(weights):
                return train_group(
                    agent,
                    self.env,
                    self.params.replace(weights=weights),
                    axes,
                    key,
                    num_members=size,
                    num_steps=config.train_steps,
                    stop=config.stop,
                    spaces=spaces,
                )

            groups = jax.tree.map(
                lambda leaf: leaf.reshape(-1, size, *leaf.shape[1:]), population
            )
            return jax.tree.map(
                lambda leaf: leaf.reshape(num_local, *leaf.shape[2:]),
                jax.lax.map(train, groups),
            )

        def train_alone(keys):
            return jax.lax.map(
                lambda candidate: self._train(agent, *candidate),
                (keys, population),
                batch_size=num_local if accelerator else None,
            )

        def one_seed(keys):
            if config.common_random_numbers:
                key_train, key_play = jax.random.split(keys)
                trained, axis = train_together(key_train), None
            else:
                key_train, key_play = jnp.moveaxis(
                    jax.vmap(jax.random.split)(keys), 1, 0
                )
                trained, axis = train_alone(key_train), 0
            return jax.vmap(
                lambda weights, key: play(
                    agent.policy(spaces, weights),
                    self.task,
                    task_params,
                    key,
                    config.fitness_episodes,
                ),
                (0, axis),
            )(trained, key_play)

        # Not 1: under a `vmap` of one, `while_loop` and `cond` copy what they carry.
        batch_size = config.num_seeds if accelerator else None
        keys = jnp.moveaxis(keys, -1, 0)
        episodes = jax.lax.map(one_seed, keys, batch_size=batch_size)
        return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), episodes)

    def _score_training(
        self, agent: Any, population: Weights, keys: jax.Array, task_params: Any
    ) -> Episodes:
        """`_score` by a rule that looks at the whole training.

        Returns:
          Scores and steps in the real task as `Episodes`, with arrays `[P, S, 1]`.
        """
        common = self.config.common_random_numbers
        num_local = jax.tree.leaves(population)[0].shape[0]
        batch_size = num_local if on_accelerator(self.mesh) else None

        def one_candidate(candidate):
            weights, own_keys = candidate

            def one_seed(key):
                _, episodes = self._train_and_score(agent, key, weights, task_params)
                return episodes

            return jax.lax.map(one_seed, keys if common else own_keys)

        own_keys = None if common else keys
        return jax.lax.map(one_candidate, (population, own_keys), batch_size=batch_size)

    def _train_and_score(
        self, agent: Any, key: jax.Array, weights: Weights, task_params: Any
    ) -> tuple[Any, Episodes]:
        """Trains one agent with tests on the task.

        Returns:
          Its policy, and its score (NaN where rewards made an end of its weights) and
          steps in the real task as `Episodes` with arrays `[1]`.
        """
        config = self.config
        key_train, key_play = jax.random.split(key)
        trained = train_once(
            agent,
            self.env,
            self.params.replace(weights=weights),
            key_train,
            spaces=self.spaces,
            num_steps=config.train_steps,
            stop=config.stop,
            test=config.scoring.task_test(self.task, task_params),
        )
        last = jax.tree.map(lambda leaf: leaf[-1], trained.weights)
        policy = agent.policy(self.spaces, last)
        final = play(policy, self.task, task_params, key_play, config.fitness_episodes)
        score = config.scoring(trained.tests, trained.steps, jnp.mean(final.returns))
        is_finite = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(last)]
        score = jnp.where(jnp.stack(is_finite).all(), score, jnp.nan)
        steps = trained.tests.real_steps + jnp.sum(final.lengths)
        if isinstance(self.env, RewardEnv):  # They train in the real task as well.
            steps = steps + trained.steps
        return policy, Episodes(score[None], steps[None])

    def validate(
        self, keys: jax.Array, weights: Weights, task_params: Any, algorithm: int = 0
    ) -> tuple[Any, Episodes]:
        """Trains one fresh agent per key on the proxy and tests it on the task.

        Agents are independent of each other. `task_params` is an argument, so that one
        program tests on tasks that differ by their params alone. `algorithm` is static:
        the place of the agent in `config.validated_agents`.

        Returns:
          The agents' policies and `Episodes`, with leading axes `[len(keys)]` and
          `[len(keys), validation_episodes]`. With a scoring rule that looks at the
          whole training: its scores instead of returns, `[len(keys), 1]`, and all
          steps in the real task instead of lengths.
        """
        spaces = self.spaces
        agent = self.config.validated_agents[algorithm]

        if not isinstance(self.config.scoring, FinalReturn):
            return map_agents(
                partial(self._train_and_score, agent),
                keys,
                weights,
                task_params,
                mesh=self.mesh,
                batch_size=1,
            )

        def one(key, weights, task_params):
            key_train, key_play = jax.random.split(key)
            policy = agent.policy(spaces, self._train(agent, key_train, weights))
            num_episodes = self.config.validation_episodes
            return policy, play(policy, self.task, task_params, key_play, num_episodes)

        # Agents that stop at different times are not worth vectorising on a CPU.
        batch_size = None if self.config.stop is None else 1
        return map_agents(
            one, keys, weights, task_params, mesh=self.mesh, batch_size=batch_size
        )

    def _train(self, agent: Any, key: jax.Array, weights: Weights) -> Weights:
        """Trains one agent on one candidate; returns its policy's weights."""
        trained = train_once(
            agent,
            self.env,
            self.params.replace(weights=weights),
            key,
            spaces=self.spaces,
            num_steps=self.config.train_steps,
            stop=self.config.stop,
        )
        return jax.tree.map(lambda leaf: leaf[-1], trained.weights)
