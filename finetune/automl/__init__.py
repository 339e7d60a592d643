"""From raw data to predictions under a time limit: `auto`."""

from finetune.automl.data import read_table
from finetune.automl.ensemble import area_under_learning_curve
from finetune.automl.learner import AutoResult, auto

__all__ = ["AutoResult", "area_under_learning_curve", "auto", "read_table"]
