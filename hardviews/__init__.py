"""Pictures: augmentations, hard views, and encoders that learn without labels.

>>> import hardviews
>>> train, test = hardviews.read_pictures("pictures.npz")  # doctest: +SKIP
>>> config = hardviews.PretrainConfig(num_views=4)  # doctest: +SKIP
>>> encoder = hardviews.pretrain("runs/mine", config, train)  # doctest: +SKIP
>>> encoder(test.images).shape  # doctest: +SKIP
"""

import jaxrl_runs.placement  # noqa: F401  first: is `envs` ours?

# isort: split
from hardviews.augmentations import (
    Augmentation,
    Crop,
    CropAndJitter,
    RandAugment,
    TrivialAugment,
)
from hardviews.contact_sheet import draw_contact_sheet
from hardviews.encoder import (
    Encoder,
    load_encoder,
    random_encoder,
    read_card,
    save_encoder,
)
from hardviews.evaluation import evaluate_encoder, knn_accuracy, probe_accuracy
from hardviews.group_augment import GroupAugment
from hardviews.methods import BYOL, Method, SimCLR, SimSiam
from hardviews.networks import RESNET18, ResNetConfig
from hardviews.picture_files import read_pictures
from hardviews.pictures import Pictures, make_pictures
from hardviews.population import train_population
from hardviews.pretraining import encoder_of, pretrain, train
from hardviews.selection import HardPairs, hardest_pairs
from hardviews.training import PretrainConfig, PretrainState

__all__ = [
    "BYOL",
    "RESNET18",
    "Augmentation",
    "Crop",
    "CropAndJitter",
    "Encoder",
    "GroupAugment",
    "HardPairs",
    "Method",
    "Pictures",
    "PretrainConfig",
    "PretrainState",
    "RandAugment",
    "ResNetConfig",
    "SimCLR",
    "SimSiam",
    "TrivialAugment",
    "draw_contact_sheet",
    "encoder_of",
    "evaluate_encoder",
    "hardest_pairs",
    "knn_accuracy",
    "load_encoder",
    "make_pictures",
    "pretrain",
    "probe_accuracy",
    "random_encoder",
    "read_card",
    "read_pictures",
    "save_encoder",
    "train",
    "train_population",
]
