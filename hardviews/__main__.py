"""`python -m hardviews sheet` draws augmentations; `... pretrain` trains an encoder.

    python -m hardviews sheet --data PATH --out sheet.png
    python -m hardviews pretrain --data PATH --out DIR --method simclr --views 4

PATH is an npz file of pictures, a folder of picture files, or the folder of CIFAR-10's
binary version; see `hardviews.read_pictures`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

_DATA = tyro.conf.arg(help="npz file of pictures, or a folder")
_SIZE = tyro.conf.arg(help="side that picture files are resized to")


@dataclasses.dataclass(frozen=True)
class Sheet:
    """Draw every operation and augmentation on some pictures."""

    data: Annotated[Path, _DATA]
    out: Annotated[Path, tyro.conf.arg(help="picture to write")] = Path("sheet.png")
    pictures: Annotated[int, tyro.conf.arg(help="columns")] = 12
    seed: int = 0
    size: Annotated[int | None, _SIZE] = None

    def run(self) -> None:
        """Reads the pictures and draws them."""
        from hardviews.contact_sheet import draw_contact_sheet
        from hardviews.picture_files import read_pictures

        train, _ = read_pictures(self.data, size=self.size)
        print(draw_contact_sheet(self.out, train.images, self.pictures, self.seed))


@dataclasses.dataclass(frozen=True)
class Pretrain:
    """Pretrain an encoder, and test it where the pictures have labels."""

    data: Annotated[Path, _DATA]
    out: Annotated[Path, tyro.conf.arg(help="folder of the run")]
    method: Literal["simsiam", "simclr", "byol"] = "simsiam"
    views: Annotated[
        int, tyro.conf.arg(help="views of a picture; of more than 2, the hardest pair")
    ] = 2
    epochs: int = 20
    width: Annotated[int, tyro.conf.arg(help="channels of the first stage")] = 16
    resnet18: Annotated[bool, tyro.conf.arg(help="the papers' network")] = False
    batch_size: int = 128
    learning_rate: Annotated[float, tyro.conf.arg(help="per 256 pictures")] = 0.2
    view_size: Annotated[int, tyro.conf.arg(help="side of a view, in pixels")] = 32
    size: Annotated[int | None, _SIZE] = None
    test_share: Annotated[
        float, tyro.conf.arg(help="kept for tests, where the data does not say which")
    ] = 0.2
    seed: Annotated[int, tyro.conf.arg(help="of the training")] = 0
    resume: Annotated[bool, tyro.conf.arg(help="continue the run in the folder")] = (
        False
    )

    def run(self) -> None:
        """Reads the pictures and trains."""
        from hardviews import RESNET18, PretrainConfig, ResNetConfig, pretrain
        from hardviews.methods import METHODS
        from hardviews.picture_files import read_pictures

        config = PretrainConfig(
            method=METHODS[self.method](),
            encoder=RESNET18 if self.resnet18 else ResNetConfig(width=self.width),
            num_views=self.views,
            view_size=self.view_size,
            batch_size=self.batch_size,
            num_epochs=self.epochs,
            learning_rate=self.learning_rate,
            seed=self.seed,
        )
        train, test = read_pictures(
            self.data, size=self.size, test_share=self.test_share
        )
        is_labelled = train.labels is not None and test.labels is not None
        if not is_labelled:
            print("the pictures have no labels: trained without evaluation")
        pretrain(
            self.out,
            config,
            train,
            test=(train, test) if is_labelled else None,
            resume=self.resume,
        )
        print(f"trained: hardviews.load_encoder({str(self.out)!r})")


def main() -> None:
    """Command line."""
    from jaxrl_runs.commands import run_command

    command = tyro.extras.subcommand_cli_from_dict(
        {"sheet": Sheet, "pretrain": Pretrain}, description=__doc__
    )
    run_command(command.run)


if __name__ == "__main__":
    main()
