"""What `evolve` is given, checked before anything is compiled."""

from __future__ import annotations

from typing import Any

import jax
from jax.sharding import Mesh

from jaxrl_runs.run_folder import RunFolder, check_run_folder
from jaxrl_runs.values import COUNT, FLAG, Function, Integer, Like, PathLike, shown
from jaxrl_se.agents.agent import AGENT
from jaxrl_se.config import EvolutionConfig
from jaxrl_se.defaults import Budget
from jaxrl_se.probing import Probe


def check_options(
    *,
    task: Any,
    config: Any,
    key: Any,
    budget: Any,
    real_steps: Any,
    with_agents: Any,
    episode_length: Any,
    probe: Any,
    progress: Any,
    proxy: Any,
    start: Any,
    out: Any,
    resume: Any,
    checkpoint_every: Any,
    on_generation: Any,
    mesh: Any,
) -> None:
    """Raises ValueError or TypeError, naming the argument of `evolve`."""
    del task, key  # They are checked where they are opened.
    if not isinstance(config, EvolutionConfig | None):
        hint = ""
        if all(hasattr(config, method) for method in AGENT.methods):
            hint = "; an agent goes into it: EvolutionConfig(agent=...)"
        elif isinstance(config, int | jax.Array):
            hint = "; a seed or key is named: key=..."
        raise TypeError(
            f"config must be an EvolutionConfig or None, got {shown(config)}{hint}"
        )
    Like("a Budget", kinds=(Budget,), optional=True).check("budget", budget)
    COUNT.check("checkpoint_every", checkpoint_every)
    Function("(row) -> None", optional=True).check("on_generation", on_generation)
    Like("a jax.sharding.Mesh", kinds=(Mesh,), optional=True).check("mesh", mesh)
    if proxy is not None and not (isinstance(proxy, tuple) and len(proxy) == 2):
        raise TypeError(f"proxy must be a pair (env, params), got {shown(proxy)}")
    if proxy is not None:
        env = "a pair (env, params), whose env is an environment to evolve"
        Like(env, ("init_weights", "reset", "step")).check("proxy", proxy[0])
    check_folder(out, resume)
    if with_agents is not None:
        FLAG.check("with_agents", with_agents)
    COUNT.check("episode_length", episode_length)
    others = (config, proxy, real_steps)
    if episode_length > 1 and any(each is not None for each in others):
        raise ValueError(
            "episode_length must be 1 where config, proxy or real_steps is given (a "
            "config's proxy says its own, SyntheticConfig(variant='multi-step', "
            f"max_steps=...)), got {episode_length}"
        )
    FLAG.check("progress", progress)
    Integer(at_most=2**62, optional=True).check("real_steps", real_steps)
    Like("a Probe", kinds=(Probe,), optional=True).check("probe", probe)
    if config is not None and (budget is not None or with_agents is not None):
        raise ValueError(
            "budget and with_agents must be None where a config is given, which says "
            f"both, got {budget} and {with_agents}"
        )
    others = (config, budget, probe, proxy, start, on_generation, mesh)
    if real_steps is not None and any(each is not None for each in others):
        raise ValueError(
            "real_steps must be None where config, budget, probe, proxy, "
            f"start, on_generation or mesh is given, got {real_steps:,}"
        )
    if real_steps is None and probe is not None and config is None:
        raise ValueError("config must be given where a probe is, got None")


def check_folder(out: Any, resume: Any) -> None:
    """Raises TypeError, ValueError or RunFolderError unless a run can go there."""
    FLAG.check("resume", resume)
    if not isinstance(out, RunFolder):
        PathLike(optional=True).check("out", out)
    if resume and out is None:
        raise ValueError(
            "out must be the folder of the run that is resumed, got None with "
            "resume=True"
        )
    if out is not None and not isinstance(out, RunFolder):
        check_run_folder(out, resume=resume)
