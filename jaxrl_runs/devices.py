"""Many agents on many devices: a mesh, and maps over a sharded leading axis."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "population"


def population_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """A one-dimensional mesh over `devices`.

    The default are all devices, those of other processes too where `jax.distributed`
    joined some: every process then runs the same program with the same arguments.
    """
    return Mesh(np.array(devices or jax.devices()), (AXIS,))


def join(
    address: str | None = None,
    num_processes: int | None = None,
    process: int | None = None,
    *,
    timeout: int | None = None,
) -> None:
    """Joins this process to a job of several, before anything else asks JAX.

    It is `jax.distributed.initialize` with collectives for CPUs. Under SLURM, on a TPU
    pod slice and the like JAX finds the arguments by itself.

    Args:
      address: `host:port` of the first process.
      num_processes: Of the job.
      process: The number of this one, from 0.
      timeout: Seconds without a sign of life after which a process counts as lost, and
        the others end; None for JAX's own 100 (jax 0.7 or newer takes others).
    """
    waits: dict[str, Any] = {}
    if timeout is not None:
        names = ("heartbeat_timeout_seconds", "shutdown_timeout_seconds")
        waits.update(dict.fromkeys(names, timeout))
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(address, num_processes, process, **waits)
    from jax.experimental.multihost_utils import sync_global_devices

    # Gloo gives the first collective 30 seconds to find the others, which are at the
    # same place now, and need not be later.
    sync_global_devices("joined")


def on_accelerator(mesh: Mesh) -> bool:
    """Whether the mesh is made of GPUs or TPUs."""
    return mesh.devices.flat[0].platform != "cpu"


def spans_processes(mesh: Mesh) -> bool:
    """Whether some of the mesh's devices belong to another process."""
    return any(d.process_index != jax.process_index() for d in mesh.devices.flat)


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Makes arrays of a jitted program whole on every process, for its host to read.

    Where one process owns the mesh they are, and nothing is moved.
    """
    if not spans_processes(mesh):
        return tree
    return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, PartitionSpec()))


@contextmanager
def naming_lost_processes() -> Iterator[None]:
    """Says what an error of the connection means in a job of several processes.

    Raises:
      RuntimeError: In the place of JAX's error.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        raise RuntimeError(
            f"process {jax.process_index()}: another process of the job was lost, or "
            "is too slow; start all of them again and resume from the last checkpoint "
            f"({str(error).splitlines()[0][:200]})"
        ) from error


def own_share(number: int) -> np.ndarray:
    """Places of those of `number` things that this process works on.

    Every process has as many; where they do not divide, some work on what another one
    does as well.

    Returns:
      int `[ceil(number / processes)]`.
    """
    size = -(-number // jax.process_count())
    return (np.arange(size) + size * jax.process_index()) % number


def gather_shares(rows: Any, number: int) -> Any:
    """What all processes found for their shares, whole on each of them.

    Args:
      rows: A pytree of arrays `[ceil(number / processes), ...]`, this process's.
      number: Of things in all.

    Returns:
      NumPy arrays `[number, ...]` in the order of the things.
    """
    from jax.experimental.multihost_utils import process_allgather

    return jax.tree.map(
        lambda x: np.reshape(x, (-1, *np.shape(x)[2:]))[:number],
        process_allgather(jax.tree.map(np.asarray, rows)),
    )


def gather_objects(content: Any) -> list[Any]:
    """Something JSON-serialisable of every process, in order, on each of them."""
    from jax.experimental.multihost_utils import process_allgather

    text = np.frombuffer(json.dumps(content).encode(), np.uint8)
    sizes = process_allgather(np.array([text.size], np.int32)).ravel()
    padded = np.zeros(sizes.max(), np.uint8)
    padded[: text.size] = text
    texts = process_allgather(padded)
    return [
        json.loads(bytes(one[:size])) for one, size in zip(texts, sizes, strict=True)
    ]


def shard(fn: Callable, mesh: Mesh, num_sharded: int = 1) -> Callable:
    """Runs `fn` on every device with its part of the leading axis.

    Args:
      fn: A function of arrays whose outputs all carry the sharded axis.
      mesh: As `population_mesh` makes it; it must divide the axis.
      num_sharded: How many of the first arguments carry the axis; the remaining ones
        are replicated.
    """
    sharded, replicated = PartitionSpec(AXIS), PartitionSpec()

    def call(*args):
        specs = tuple(
            sharded if i < num_sharded else replicated for i in range(len(args))
        )
        return jax.shard_map(
            fn, mesh=mesh, in_specs=specs, out_specs=sharded, check_vma=False
        )(*args)

    return call


def map_agents(
    fn: Callable,
    agents: Any,
    *shared: Any,
    mesh: Mesh | None = None,
    batch_size: int | None = None,
) -> Any:
    """`fn(agent, *shared)` for independent agents, on all devices.

    On a CPU a few agents at a time are vectorised, so that their activations stay in
    the cache; on an accelerator all of a device's agents are.

    Args:
      fn: A function of one agent's arrays and of arguments that all agents share.
      agents: What differs between agents, keys for instance: a pytree whose leaves
        have a leading `[num_agents]` axis.
      *shared: Shared arguments.
      mesh: Devices to use: all of them, the last ones with agents that nobody asked for
        where they do not divide `num_agents`. Where one process owns them, no more
        than there are agents.
      batch_size: Agents that a CPU device vectorises, 8 by default.

    Returns:
      The outputs of `fn` with a leading `[num_agents]` axis, whole on every process.
    """
    mesh = mesh or population_mesh()
    num_asked = jax.tree.leaves(agents)[0].shape[0]
    # No process may be left out: it would wait for the others for ever. A device has
    # as many agents in one process as in several: the same program, the same bits.
    if not spans_processes(mesh):
        mesh = Mesh(mesh.devices[:num_asked], (AXIS,))
    num_agents = -(-num_asked // mesh.devices.size) * mesh.devices.size
    if num_agents != num_asked:
        places = np.arange(num_agents) % num_asked
        agents = jax.tree.map(lambda leaf: leaf[places], agents)
    batch_size = num_agents if on_accelerator(mesh) else batch_size or 8
    if batch_size == 1:
        # Under a `vmap` of one, `while_loop` and `cond` copy what they carry.
        batch_size = None

    def local(agents, *shared):
        return jax.lax.map(
            lambda agent: fn(agent, *shared), agents, batch_size=batch_size
        )

    outputs = replicate(shard(local, mesh)(agents, *shared), mesh)
    if num_agents == num_asked:
        return outputs
    return jax.tree.map(lambda leaf: leaf[:num_asked], outputs)
