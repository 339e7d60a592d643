"""One generation of evolution: propose, train, score, conclude; and its validation.

Each part is a pure function and `step` is all of them as one jitted program. On a task
outside of JAX what comes before play and what comes after are two programs (see
`jaxrl_se.outside`). Nothing here knows which agent, proxy, scoring rule or task
it holds, and params of task and proxy are arguments: one program serves a family.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import Mesh

from envs.spaces import Spaces
from envs.steps import Steps, kind_of_steps
from jaxrl_runs.devices import map_agents, on_accelerator, replicate, shard
from jaxrl_se.config import EvolutionConfig
from jaxrl_se.evaluation import Episodes, play
from jaxrl_se.networks import Weights
from jaxrl_se.reward_network import check_shaping
from jaxrl_se.scoring import Trial
from jaxrl_se.strategies import Strategy, make_strategy
from jaxrl_se.training import train_once


@runtime_checkable
class Proxy(Protocol):
    """An environment that can evolve: a gymnax one, with these two.

    Its params are a dataclass with a field `weights`, the pytree that evolves.
    """

    def init_weights(self, key: jax.Array) -> Weights:
        """Draws the weights from which an evolution starts."""
        ...

    def population_axes(self, params: Any) -> Any:
        """`jax.vmap` axes of params of which the weights alone differ."""
        ...


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


@struct.dataclass
class GenerationLog:
    """What one generation reports.

    Attributes:
      fitness: float32 `[P]`, mean score per candidate; NaN for a failed one.
      steps: What it took.
    """

    fitness: jax.Array
    steps: Steps


@struct.dataclass
class Validation:
    """Fresh agents, trained on one candidate and tested.

    Attributes:
      policies: Their policies, with a leading axis `[A]`.
      episodes: Their test episodes, arrays `[A, E]`.
      score: float32 scalar, in the unit of `EvolutionConfig.stop_return`.
      steps: What it took.
    """

    policies: Any
    episodes: Episodes
    score: jax.Array
    steps: Steps


@dataclasses.dataclass(frozen=True)
class Generation:
    """The static parts of an evolution, and its pure functions.

    Two of equal configuration are equal and compute the same.

    Attributes:
      env: The proxy.
      task: The task's environment.
      spaces: The spaces of both.
      config: Sizes and budgets.
      mesh: The devices over which the population is sharded.
      strategy: The evolution strategy, which follows from `config`.
    """

    env: Any
    task: Any
    spaces: Spaces
    config: EvolutionConfig
    mesh: Mesh
    strategy: Strategy = dataclasses.field(compare=False)

    @classmethod
    def build(
        cls, task: Any, proxy: Any, config: EvolutionConfig, mesh: Mesh
    ) -> tuple[Generation, Params]:
        """Checks that the parts fit together.

        Args:
          task: A gymnax pair, or a task outside JAX.
          proxy: The pair that evolves.
          config: Sizes and budgets.
          mesh: Devices.

        Returns:
          The functions, and the params that they are called with.

        Raises:
          ValueError: The population does not divide over the mesh, the agent cannot act
            in the task, the proxy's spaces are not the task's, or it cannot evolve.
        """
        env, params = proxy
        is_outside = not isinstance(task, tuple)
        num_devices = mesh.devices.size
        if config.population_size % num_devices:
            raise ValueError(
                "population_size must be divisible by the mesh's number of devices "
                f"({num_devices}), got {config.population_size}"
            )
        config.group_of(config.population_size // num_devices, on_accelerator(mesh))
        if not (isinstance(env, Proxy) and hasattr(params, "weights")):
            raise ValueError(
                "proxy must have init_weights and population_axes, and params with "
                f"weights, got {type(env).__name__} with {type(params).__name__}"
            )
        spaces = task.spaces if is_outside else Spaces.of(*task)
        for agent in config.agents:
            agent.check(spaces)
            check_shaping(params, agent)
        real, real_params = (task, None) if is_outside else task
        if config.horizon is not None and not hasattr(
            real_params, "max_steps_in_episode"
        ):
            raise ValueError(
                "horizon must be None for a task whose params have no "
                f"max_steps_in_episode to change, got {config.horizon}"
            )
        if Spaces.of(env, params) != spaces:
            raise ValueError(
                "proxy: its spaces differ from the task's: "
                f"{Spaces.of(env, params)} against {spaces}"
            )
        kind_of_steps(env)
        strategy = make_strategy(
            config.strategy,
            config.population_size,
            params.weights,
            std=config.std,
            learning_rate=config.strategy_learning_rate,
        )
        program = cls(env, real, spaces, config, mesh, strategy)
        return program, Params(real_params, params)

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
        self, key: jax.Array, state: Any, generation: jax.Array, params: Params
    ) -> tuple[Any, GenerationLog]:
        """Runs one generation.

        Args:
          key: This generation's key.
          state: The strategy's state.
          generation: int32, its number, from 0.
          params: Params of task and proxy.

        Returns:
          The next state and a log.
        """
        key_ask, key_score, key_tell = jax.random.split(key, 3)
        population, state = self.propose(key_ask, state)
        params = params.replace(task=self.task_params(generation, params.task))
        keys = self.agent_keys(key_score)
        trials = [partial(self.sharded, self._trials, a) for a in self.config.agents]
        if self.config.algorithms == "mixed":
            each = [trial(population, keys, params) for trial in trials]
            scored = jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *each)
        else:
            turn = self.turn(generation)
            scored = jax.lax.switch(turn, trials, population, keys, params)
        state, fitness = self.conclude(key_tell, state, population, scored.scores)
        return state, GenerationLog(fitness, self.steps(scored))

    def propose(self, key: jax.Array, state: Any) -> tuple[Weights, Any]:
        """Draws a population, weights with a leading axis `[P]`."""
        return self.strategy.ask(key, state)

    def conclude(
        self, key: jax.Array, state: Any, population: Weights, scores: jax.Array
    ) -> tuple[Any, jax.Array]:
        """Tells the strategy what came of its population.

        Args:
          key: A PRNG key.
          state: The strategy's state, as `propose` left it.
          population: The candidates.
          scores: float32 `[P, S, K]`, of each candidate's agents.

        Returns:
          The next state and the fitness `[P]`, NaN for candidates that failed.
        """
        fitness = replicate(jnp.mean(scores, axis=(1, 2)), self.mesh)
        is_finite = jnp.stack(
            [
                jnp.all(jnp.isfinite(leaf), axis=tuple(range(1, leaf.ndim)))
                for leaf in jax.tree.leaves(population)
            ]
        ).all(axis=0)
        fitness = jnp.where(is_finite & jnp.isfinite(fitness), fitness, jnp.nan)
        return self.strategy.tell(key, population, fitness, state), fitness

    def agent_keys(self, key: jax.Array) -> jax.Array:
        """Keys of the agents: `[S]` that candidates share, or `[P, S]`."""
        shape: tuple[int, ...] = (self.config.num_seeds,)
        if not self.config.common_random_numbers:
            shape = (self.config.population_size, *shape)
        return jax.random.split(key, shape)

    def task_params(self, generation: jax.Array, params: Any) -> Any:
        """Params of the task as the fitness episodes of a generation have them."""
        if self.config.horizon is None:
            return params
        limit = self.config.horizon.at(generation)
        return params.replace(max_steps_in_episode=limit)

    def turn(self, generation: Any) -> Any:
        """Whose turn among `config.agents` it is, int32; not for "mixed"."""
        if self.config.algorithms == "stages":
            stages = jnp.asarray(self.config.stages, jnp.int32)
            return jnp.sum(generation >= stages)
        return generation % len(self.config.agents)

    def steps(self, scored: Scored) -> Steps:
        """What agents took, by where they took it."""
        in_task = Steps.of(kind_of_steps(self.task), jnp.sum(scored.task_steps))
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

    def validate(
        self, keys: jax.Array, weights: Weights, params: Params, algorithm: int = 0
    ) -> Validation:
        """Trains one fresh agent per key on the proxy and tests it on the task.

        Agents are independent of each other. `algorithm` is static: the place of the
        agent in `config.validated_agents`.
        """
        config = self.config
        agent = config.validated_agents[algorithm]
        is_tested = config.scoring.task_test(self.task, params.task) is not None
        num_episodes = (
            config.fitness_episodes if is_tested else config.validation_episodes
        )

        def one(key, weights, params):
            key_train, key_play = jax.random.split(key)
            proxy = params.proxy.replace(weights=weights)
            trained = self.train_one(agent, key_train, proxy, task_params=params.task)
            policy = self.policy(agent, trained)
            episodes = play(policy, self.task, params.task, key_play, num_episodes)
            validated = config.scoring.validated(trial_of(trained, episodes))
            scored = self.score_one(trained, episodes).replace(scores=validated)
            return policy, episodes, scored

        # Agents that stop at different times are not worth vectorising on a CPU.
        batch_size = None if config.stop is None and not is_tested else 1
        policies, episodes, scored = map_agents(
            one, keys, weights, params, mesh=self.mesh, batch_size=batch_size
        )
        score = replicate(jnp.mean(scored.scores), self.mesh)
        return Validation(policies, episodes, score, self.steps(scored))


def trial_of(trained: Trained, episodes: Episodes) -> Trial:
    """What a scoring rule sees of an agent."""
    leaves = jax.tree.leaves(trained.weights)
    is_finite = jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]).all()
    return Trial(episodes, trained.steps, is_finite, trained.tests)
