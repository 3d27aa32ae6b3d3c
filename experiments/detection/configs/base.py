"""The family's defaults. An experiment is `base(group=dict(key=value), ...)`."""

from typing import Any

from ml_collections import ConfigDict

from research.core import config
from research.nn import model_keys

DETECTORS = {  # model.name -> its module; the file has the keys of the groups loss and found, too
    "grid": "experiments.detection.grid.Grid",
    "detr": "experiments.detection.detr.DETR",
    "faster_rcnn": "experiments.detection.faster_rcnn.FasterRCNN",
    "ssd": "experiments.detection.ssd.SSD",
}


def base(**changes: Any) -> ConfigDict:
    model = model_keys.of_model(DETECTORS, changes, "grid")
    file = DETECTORS[model["name"]].rpartition(".")[0]
    return config.merge(
        config.family_defaults(
            data=dict(
                source="digits",  # bccd; voc, yolo or coco: files of your own
                path=None,  # voc, yolo: a folder; coco: a folder or a .json
                size=64,  # pixels of the canvas, or (Y, X)
                channels=None,  # 1 or 3, where the data is not digits
                valid_fraction=None,  # where the data is not divided: shares of it, 0.1 each
                test_fraction=None,
                batch_size=16,  # over all devices, B
                eval_batch_size=32,
            ),
            model=model,
            augment=dict(
                mosaic=0.0,  # probability of a picture made of four
                flip=0.0,  # of mirroring left to right
                flip_vertical=0.0,  # and upside down
                scale=0.0,  # zoom, at most: 0.5 is from 1 / 1.5 to 1.5
                shift=0.0,  # shares of the sides, at most
                jitter=0.0,  # of brightness, contrast and saturation
            ),
            loss=model_keys.fields(f"{file}.Loss"),
            found=dict(
                **model_keys.fields(f"{file}.Found"),
                least_score=0.3,  # of the boxes that `almanac predict` prints
            ),
            best=dict(metric="valid/map50", mode="max", patience=None),  # patience: a duration
        ),
        **changes,
    )
