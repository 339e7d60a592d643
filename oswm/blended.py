"""What the transformer blends: closed forms, and small networks trained on the rows.

Kernel ridge regression has a length scale per input, which a network names that was
trained on synthetic tasks. Where no row has been, the ensemble of networks is wrong in
other ways than kernels are, so that their mean is seldom far off.
"""

from __future__ import annotations

from oswm.closed_form import Ridge
from oswm.kernel_ridge import KernelRidge
from oswm.mlp_ensemble import MLPEnsemble
from oswm.nearest_neighbours import NearestNeighbours
from oswm.relevance import RelevanceSearch
from oswm.selection import LeaveOneOut

BLENDED = LeaveOneOut(
    (
        Ridge(),
        Ridge(quadratic=True),
        KernelRidge(ard=True, search=RelevanceSearch(num_steps=0, guess="shipped")),
        NearestNeighbours(),
        MLPEnsemble(num_updates=1500, batch_size=64, learning_rate=5e-3),
    )
)
# The same with fewer landmarks, candidates and updates, for training on many tasks.
QUICK_BLENDED = LeaveOneOut(
    (
        Ridge(),
        Ridge(quadratic=True),
        KernelRidge(
            num_landmarks=64,
            num_screening=32,
            length_scales=(0.5, 1.0, 2.0),
            penalties=(1e-3, 1e-1),
            ard=True,
            search=RelevanceSearch(num_steps=0, num_rows=96, guess="shipped"),
        ),
        NearestNeighbours(),
        MLPEnsemble(
            num_members=3,
            hidden_sizes=(32, 32),
            num_updates=600,
            batch_size=64,
            learning_rate=5e-3,
        ),
    )
)
