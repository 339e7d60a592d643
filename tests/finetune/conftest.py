import os
from pathlib import Path

import jax
import pytest

import finetune

TINY = finetune.FitConfig(
    performance=finetune.MetaTrainConfig(
        num_steps=400,
        num_members=2,
        num_context=16,
        num_query=16,
        num_meta_examples=512,
    ),
    cost=finetune.MetaTrainConfig(num_steps=200, num_members=1),
    ranking=finetune.RankingConfig(num_steps=300, num_members=2),
    reference=None,
)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Folder with the real data; skips where it is not present."""
    root = Path(__file__).parents[2]
    folder = Path(os.environ.get("JAXRL_SE_DATA", root / ".." / "shared" / "data"))
    if not (folder / "quicktune_extended").is_dir():
        pytest.skip("the real data are not present (set JAXRL_SE_DATA)")
    return folder


@pytest.fixture(scope="session")
def synthetic() -> finetune.MetaDataset:
    return finetune.make_synthetic(num_datasets=8, num_runs=40, num_epochs=20, seed=1)


@pytest.fixture(scope="session")
def bundle(synthetic) -> finetune.Surrogates:
    """Surrogates that learned from six of the eight synthetic datasets."""
    train = [list(range(6))]
    return finetune.fit_surrogates(jax.random.key(0), synthetic, TINY, train)[0]
