"""One generation of evolution: propose, train, score, conclude; and its validation.

Each part is a pure function and `step` is all of them as one jitted program. On a task
outside of JAX what comes before play and what comes after are two programs (see
`jaxrl_se.outside`). Nothing here knows which agent, proxy, scoring rule or task
it holds, and params of task and proxy are arguments: one program serves a family.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import Mesh

from envs.spaces import Spaces
from envs.steps import StepKind, Steps, kind_of_steps
from jaxrl_runs.devices import map_agents, on_accelerator, replicate
from jaxrl_se.agents.agent import check_agent
from jaxrl_se.config import EvolutionConfig
from jaxrl_se.evaluation import Episodes, play
from jaxrl_se.networks import Weights
from jaxrl_se.reward_network import check_shaping
from jaxrl_se.strategies import Strategy, make_strategy
from jaxrl_se.trials import Params, Trials, trial_of

Vary = Callable[[Any, jax.Array, Any], Any]
_VARY = 2  # folded from a generation's key


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
class GenerationLog:
    """What one generation reports.

    Attributes:
      fitness: float32 `[P]`, mean score per candidate; NaN for a failed one.
      steps: What it took.
      seen: The observations that policies met, where ranges follow them
        (`envs.moments.Moments`, outside JAX); None otherwise.
    """

    fitness: jax.Array
    steps: Steps
    seen: Any = None


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
class Generation(Trials):
    """The static parts of an evolution, and its pure functions.

    Two of equal configuration are equal and compute the same.

    Attributes:
      strategy: The evolution strategy, which follows from `config`.
      vary: `(params, key, generation) -> params` of the task for the fitness episodes
        of a generation, or None for a task that stays as it is.
    """

    strategy: Strategy = dataclasses.field(compare=False)
    vary: Vary | None = None

    @classmethod
    def build(
        cls,
        task: Any,
        proxy: Any,
        config: EvolutionConfig,
        mesh: Mesh,
        *,
        kind: StepKind | None = None,
        vary: Vary | None = None,
    ) -> tuple[Generation, Params]:
        """Checks that the parts fit together.

        Args:
          task: A gymnax pair, or a task outside JAX.
          proxy: The pair that evolves.
          config: Sizes and budgets.
          mesh: Devices.
          kind: What a step of the task is; by default what its environment says.
          vary: See `Generation`.

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
            check_agent(agent, spaces)
            check_shaping(params, agent)
        real, real_params = (task, None) if is_outside else task
        has_limit = is_outside or hasattr(real_params, "max_steps_in_episode")
        if config.horizon is not None and not has_limit:
            raise ValueError(
                "horizon must be None for a task whose params have no "
                f"max_steps_in_episode to change, got {config.horizon}"
            )
        found = Spaces.of(*proxy)
        # One-hot states in the task may be any vectors of their size in the proxy.
        if _without_numbers(found) != _without_numbers(spaces):
            raise ValueError(
                f"proxy: its spaces differ from the task's: {found} against {spaces}"
            )
        kind_of_steps(env)
        strategy = make_strategy(
            config.strategy,
            config.population_size,
            params.weights,
            std=config.std,
            learning_rate=config.strategy_learning_rate,
        )
        own_kind: StepKind = task.kind if is_outside else kind_of_steps(real)
        program = cls(env, real, kind or own_kind, spaces, config, mesh, strategy, vary)
        return program, Params(real_params, params)

    def init(self, key: jax.Array, start: Weights | None = None) -> Any:
        """The strategy's state.

        Args:
          key: A PRNG key.
          start: The mean; None draws it.

        Raises:
          ValueError: `start` has not the shapes of the environment's weights.
        """
        key_init, key_strategy = jax.random.split(key)
        mean = self.env.init_weights(key_init) if start is None else start
        if start is not None:
            expected = _shapes(jax.eval_shape(self.env.init_weights, key_init))
            if _shapes(start) != expected:
                raise ValueError(
                    f"start must be weights of the learned environment, {expected}, "
                    f"got {_shapes(start)}"
                )
        state = self.strategy.init(key_strategy, mean)
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
        task_params = self.task_params(key, generation, params.task)
        params = Params(task_params, params.proxy)
        keys = self.agent_keys(key_score)
        agents = self.config.scored_agents
        trials = [partial(self.sharded, self._trials, agent) for agent in agents]
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
        is_finite = is_finite & jnp.isfinite(fitness)
        fitness = replicate(jnp.where(is_finite, fitness, jnp.nan), self.mesh)
        state = self.strategy.tell(key, population, fitness, state)
        # Whole on every process, for the next generation and for checkpoints.
        return replicate(state, self.mesh), fitness

    def task_params(self, key: jax.Array, generation: jax.Array, params: Any) -> Any:
        """Params of the task as the fitness episodes of a generation have them."""
        if self.vary is not None:
            params = self.vary(params, jax.random.fold_in(key, _VARY), generation)
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
            scored = self.score_one(trained, episodes)
            scored = dataclasses.replace(scored, scores=validated)
            return policy, episodes, scored

        # Agents that stop at different times are not worth vectorising on a CPU.
        batch_size = None if config.stop is None and not is_tested else 1
        policies, episodes, scored = map_agents(
            one, keys, weights, params, mesh=self.mesh, batch_size=batch_size
        )
        score = replicate(jnp.mean(scored.scores), self.mesh)
        return Validation(policies, episodes, score, self.steps(scored))


def _without_numbers(spaces: Spaces) -> Spaces:
    """Spaces whose vectors are not said to be one-hot states."""
    if spaces.obs_shape == ():
        return spaces
    return dataclasses.replace(spaces, num_states=None)


def _shapes(weights: Any) -> dict[str, tuple[int, ...]]:
    """Shapes of weights, by where they are."""
    leaves = jax.tree_util.tree_leaves_with_path(weights)
    return {jax.tree_util.keystr(path): tuple(jnp.shape(leaf)) for path, leaf in leaves}
