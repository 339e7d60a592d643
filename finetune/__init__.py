"""Which pretrained model, and how to finetune it: surrogates of finetuning runs.

>>> import finetune
>>> tuner = finetune.Tuner.load(meta_features=[5_000, 20, 128, 3])  # doctest: +SKIP
>>> trial = tuner.suggest()  # doctest: +SKIP
>>> tuner.observe(trial, accuracy=0.31, seconds=42.0)  # doctest: +SKIP
"""

import jaxrl_runs.placement  # noqa: F401  first: is `envs` ours?

# isort: split
from finetune.automl import AutoResult, area_under_learning_curve, auto
from finetune.bundle import FitConfig, Surrogates, available, fit_surrogates, load
from finetune.cold import ColdConfig
from finetune.images import draw_candidates, run_images
from finetune.job import JobResult, run
from finetune.meta_dataset import MetaDataset
from finetune.meta_features import (
    extract_image_meta_features,
    image_meta_features,
    text_meta_features,
)
from finetune.readers import read, read_csv, read_json, read_npz
from finetune.run_tables import RunTable, load_table
from finetune.space import Categorical, Condition, Float, Ordinal, SearchSpace
from finetune.synthetic import example_space, make_synthetic
from finetune.training import MetaTrainConfig, leave_datasets_out
from finetune.tuner import Trial, Tuner
from finetune.workers import Epoch, Outcome
from finetune.zero_shot import RankingConfig
from jaxrl_runs.keywords import explain_keywords

__all__ = [
    "AutoResult",
    "Categorical",
    "ColdConfig",
    "Condition",
    "Epoch",
    "FitConfig",
    "Float",
    "JobResult",
    "MetaDataset",
    "MetaTrainConfig",
    "Ordinal",
    "Outcome",
    "RankingConfig",
    "RunTable",
    "SearchSpace",
    "Surrogates",
    "Trial",
    "Tuner",
    "area_under_learning_curve",
    "auto",
    "available",
    "draw_candidates",
    "example_space",
    "extract_image_meta_features",
    "fit_surrogates",
    "image_meta_features",
    "leave_datasets_out",
    "load",
    "load_table",
    "make_synthetic",
    "read",
    "read_csv",
    "read_json",
    "read_npz",
    "run",
    "run_images",
    "text_meta_features",
]

explain_keywords(globals(), __all__)
