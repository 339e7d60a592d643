"""What a reader runs: `python -m benchmarks` lists the benchmarks.

Importing this package asks for one CPU device per core, over which populations are
sharded. It has to happen before JAX starts its backend, which importing gymnax does;
the environment's own settings win.
"""

import os
from importlib.metadata import version

_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(_CORES))

# One thread per device. Level 1 without expensive passes, fusion emitters and splitting
# compiles in a third of the time, and programs of tiny operations run about as fast.
_FLAGS = [
    "--xla_cpu_multi_thread_eigen=false",
    "--xla_backend_optimization_level=1",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
]
if version("jaxlib").startswith("0.10."):  # XLA aborts on flags that it does not know.
    _FLAGS.append("--xla_cpu_use_fusion_emitters=false")
for _flag in _FLAGS:
    if _flag.split("=")[0] not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_flag}".strip()
