"""What a reader runs: `python -m benchmarks` lists the benchmarks.

Importing this package asks for one CPU device per core, over which populations are
sharded, but for `oswm`, which has none. It has to happen before JAX starts its backend,
which importing gymnax does; the environment's own settings win.
"""

import os
import sys
from importlib.metadata import version

_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
# A second thread would share operations that are too small for it: a training run takes
# 37 seconds instead of 22.
_ALONE = "benchmarks.oswm" in sys.orig_argv
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "1" if _ALONE else str(_CORES))
if _ALONE:
    os.environ.setdefault("NPROC", "1")  # XLA's threads, of which one per device.

# One thread per device. Level 1 without expensive passes and in one piece compiles a
# third faster, and programs of tiny operations run as fast; not so `paper_se`, with
# minibatches of 199 and runs of hours, to which wide registers give a tenth.
_FLAGS = ["--xla_cpu_multi_thread_eigen=false"]
if "benchmarks.paper_se" not in sys.orig_argv:
    _FLAGS += [
        "--xla_backend_optimization_level=1",
        "--xla_llvm_disable_expensive_passes=true",
        "--xla_cpu_parallel_codegen_split_count=1",
    ]
else:
    _FLAGS.append("--xla_cpu_prefer_vector_width=512")
# Without fusion emitters programs compile in half the time and run up to twice as long:
# right for a quick run only. XLA aborts on flags that a version does not know.
if "--quick" in sys.argv and version("jaxlib").startswith("0.10."):
    _FLAGS.append("--xla_cpu_use_fusion_emitters=false")
for _flag in _FLAGS:
    if _flag.split("=")[0] not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_flag}".strip()
