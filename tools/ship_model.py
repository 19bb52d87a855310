"""Turns a pre-trained character model into the form in which one is shipped: `python tools/ship_model.py dickens.keras`.

Writes the weights in half precision, and the training's history, into fedloom/models/pretrained/.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np

import fedloom as fl


def main(source: Path) -> None:
    """Writes `<name>.npz` and `<name>.json`."""
    folder = Path(fl.__file__).parent / "models" / "pretrained"
    weights = fl.models.load(source).get_weights()
    np.savez_compressed(folder / f"{source.stem}.npz", *[weight.astype(np.float16) for weight in weights])
    shutil.copyfile(source.with_suffix(".json"), folder / f"{source.stem}.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
