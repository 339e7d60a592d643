"""Inner-loop agents, ours and rejax's: CPU-seconds to compile and to train.

Both train the same number of agents, one per random one-step synthetic environment and
all from one key, as a generation of evolution does: `jax.vmap` over the environments'
params alone. They make as many environment steps and updates of networks of the same
size, as one ahead-of-time compiled program on one core. The mean reward that the
trained agents get is printed too, so that none is fast by learning less.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from tqdm import tqdm

from envs import LegacyEnv
from jaxrl_runs.run_folder import RunFolder, next_run_folder
from jaxrl_se import DDQN, PPO, SAC, TD3, Spaces, SyntheticConfig
from jaxrl_se.evaluation import play
from jaxrl_se.training import train_group

DISCRETE = Spaces(4, 2)  # CartPole's
CONTINUOUS = Spaces(3, None, (-2.0,), (2.0,))  # Pendulum's
OURS, REJAX = "ours", "rejax"

_OFF_POLICY = {
    "hidden_sizes": (64, 64),
    "activation": "tanh",
    "batch_size": 100,
    "buffer_size": 2000,
    "learning_starts": 1000,
}
AGENTS: dict[str, tuple[Any, Spaces]] = {
    "PPO": (PPO(max_grad_norm=float("inf")), DISCRETE),
    "DQN": (DDQN(**_OFF_POLICY, max_grad_norm=None), DISCRETE),
    "SAC, discrete": (SAC(**_OFF_POLICY), DISCRETE),
    "SAC, continuous": (SAC(**_OFF_POLICY), CONTINUOUS),
    "TD3": (TD3(**_OFF_POLICY), CONTINUOUS),
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the benchmark.

    Attributes:
      population: Agents trained at once.
      steps: Environment steps of each agent, a multiple of 500.
      repeats: Timed runs per contender.
      seed: Seed of the environments and agents.
      out: Folder of the run; without it, the next numbered one under runs/.
    """

    population: int = 16
    steps: int = 2000
    repeats: int = 3
    seed: int = 0
    out: Path | None = None

    def __post_init__(self):
        if self.population < 1 or self.repeats < 1:
            raise ValueError(
                "--population and --repeats must be at least 1, got "
                f"{self.population}, {self.repeats}"
            )
        if self.steps < 2000 or self.steps % 500:
            raise ValueError(
                f"--steps must be a multiple of 500 from 2000 on, got {self.steps}"
            )


def ours(agent: Any, env: Any, params: Any, options: Options) -> Callable:
    """`(environment weights [P], key) -> policies [P]`."""
    axes = env.population_axes(params)

    def train(weights, key):
        trained = train_group(
            agent,
            env,
            params.replace(weights=weights),
            axes,
            key,
            num_members=options.population,
            num_steps=options.steps,
        )
        return agent.policy(env.spaces, trained)

    return train


def rejax_algorithm(agent: Any, env: Any, params: Any, num_steps: int) -> Any:
    """The algorithm of rejax with the settings of `agent`, without evaluation."""
    import rejax

    network = {"activation": agent.activation}  # rejax's hidden layers are 64 x 64
    shared = {
        "env": LegacyEnv(env),
        "env_params": params,
        "total_timesteps": num_steps,
        "eval_freq": num_steps,
        "skip_initial_evaluation": True,
        "learning_rate": agent.learning_rate,
        "gamma": agent.discount,
    }
    if isinstance(agent, PPO):
        algorithm = rejax.PPO.create(
            num_envs=agent.num_envs,
            num_steps=agent.rollout_steps,
            num_epochs=agent.num_epochs,
            num_minibatches=agent.num_minibatches,
            gae_lambda=agent.gae_lambda,
            clip_eps=agent.clip_ratio,
            ent_coef=agent.entropy_coef,
            vf_coef=agent.value_coef,
            agent_kwargs=network,
            **shared,
        )
        return algorithm.replace(eval_callback=lambda *_: ())
    shared |= {
        "num_envs": 1,
        "num_epochs": 1,
        "buffer_size": agent.buffer_size,
        # It updates where more than `fill_buffer` steps are done.
        "fill_buffer": agent.learning_starts - 1,
        "batch_size": agent.batch_size,
        "target_update_freq": 1,
        "polyak": 1 - agent.target_update_rate,
    }
    if isinstance(agent, DDQN):
        algorithm = rejax.DQN.create(
            eps_start=agent.epsilon_start,
            eps_end=agent.epsilon_end,
            exploration_fraction=agent.epsilon_steps / num_steps,
            ddqn=agent.double,
            agent_kwargs=network,
            **shared,
        )
    elif isinstance(agent, SAC):
        algorithm = rejax.SAC.create(
            target_entropy_ratio=agent.target_entropy_ratio,
            agent_kwargs=network,
            **shared,
        )
    else:
        half = (env.spaces.action_high[0] - env.spaces.action_low[0]) / 2
        algorithm = rejax.TD3.create(
            exploration_noise=agent.exploration_noise * half,
            target_noise=agent.target_noise * half,
            target_noise_clip=agent.target_noise_clip * half,
            policy_delay=agent.policy_delay,
            actor_kwargs=dict(network),
            critic_kwargs=dict(network),
            **shared,
        )
    return algorithm.replace(eval_callback=lambda *_: ())


def rejax_population(agent: Any, env: Any, params: Any, options: Options) -> Callable:
    """`(environment weights [P], key) -> policies [P]`."""
    algorithm = rejax_algorithm(agent, env, params, options.steps)

    def train(weights, key):
        def one(weights):
            own = algorithm.replace(env_params=params.replace(weights=weights))
            state, _ = own.train(key)
            return jax.tree_util.Partial(act, state)

        return jax.vmap(one)(weights)

    def act(state, obs, key):
        action = algorithm.make_act(state)(obs, key)
        return jnp.reshape(action, algorithm.action_space.shape)

    return train


def measure(name: str, contender: str, options: Options) -> dict[str, Any]:
    """CPU-seconds to trace, compile and run, and the trained agents' mean reward."""
    agent, spaces = AGENTS[name]
    env = SyntheticConfig(activation="relu").build(spaces)
    params: Any = env.default_params
    make = ours if contender == OURS else rejax_population
    key_envs, key_train, key_play = jax.random.split(jax.random.key(options.seed), 3)
    weights = jax.jit(jax.vmap(env.init_weights))(
        jax.random.split(key_envs, options.population)
    )
    clock = time.process_time
    start = clock()
    traced = jax.jit(make(agent, env, params, options)).lower(weights, key_train)
    mid = clock()
    program = traced.compile()
    compiled = clock()
    runs = []
    for _ in range(options.repeats):
        begin = clock()
        policies = jax.block_until_ready(program(weights, key_train))
        runs.append(clock() - begin)

    @jax.jit
    @jax.vmap
    def rewards(policy, weights):
        own = params.replace(weights=weights)
        return play(policy, env, own, key_play, 256).returns.mean()

    reward = rewards(policies, weights)
    return {
        "trace": mid - start,
        "compile": compiled - mid,
        "run": float(np.median(runs)),
        "reward": float(reward.mean()),
    }


def print_table(summary: dict[str, Any]) -> None:
    """Prints CPU-seconds and rewards, and rejax's divided by ours."""
    print(
        f"{summary['population']} agents, {summary['steps']} steps each, CPU-seconds "
        f"(median of {summary['repeats']} runs); rejax {summary['rejax']}"
    )
    print(f"{'':<18}{'':<8}{'trace':>8}{'compile':>9}{'run':>8}{'reward':>9}")
    for name, rows in summary["agents"].items():
        for contender, row in rows.items():
            print(
                f"{name:<18}{contender:<8}{row['trace']:>8.1f}{row['compile']:>9.1f}"
                f"{row['run']:>8.2f}{row['reward']:>9.3f}"
            )
        if REJAX in rows:
            ratio = rows[REJAX]["run"] / rows[OURS]["run"]
            print(f"{'':<18}{'  run, rejax / ours':<25}{ratio:>6.1f} x")


def main() -> None:
    """Parses the command line, measures, prints the table."""
    options = tyro.cli(Options, description=__doc__)
    contenders = [OURS]
    version = "is not installed: pip install 'jaxrl-se[bench]'"
    try:
        version = importlib.metadata.version("rejax")
        contenders.append(REJAX)
    except importlib.metadata.PackageNotFoundError:
        pass
    out = options.out or next_run_folder("runs/agents_throughput")
    identity = {name: str(value) for name, value in dataclasses.asdict(options).items()}
    cells = [(name, contender) for name in AGENTS for contender in contenders]
    with RunFolder(out, identity) as folder:
        found: dict[str, dict] = {name: {} for name in AGENTS}
        for name, contender in tqdm(cells, "measure", disable=None, leave=False):
            found[name][contender] = measure(name, contender, options)
        summary = {
            "population": options.population,
            "steps": options.steps,
            "repeats": options.repeats,
            "rejax": version,
            "agents": found,
        }
        folder.write_json("summary.json", summary)
    print_table(summary)
    print(f"results in {out}")
