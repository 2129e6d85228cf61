"""A folder of pictures to keep."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..validation import UNREADABLE, shortened

# What the library raises beside: of a size that no memory holds, or in the middle of a file.
NO_PICTURE = (Image.DecompressionBombError, SyntaxError, EOFError, MemoryError, struct.error)
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def pictures_in(folder: Path) -> list[Path]:
    """Its pictures, by name. Raises ValueError where it holds none."""
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    pictures = [path for path in found if path.suffix.lower() in ENDINGS]
    if not pictures:
        raise ValueError(
            f"Got {shortened(str(folder), 200)} for --keep-images, expected a folder with pictures "
            f"({', '.join(ENDINGS)}). Correct the path, or leave it out: the model then draws what "
            "is to be kept."
        )
    return pictures


def read_picture(path: Path, size: tuple[int, int]) -> Tensor:
    """(3, height, width) in 0..1, cropped around its middle to `size`, height and width in pixels.

    Raises ValueError, naming the path, where the file is no picture.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # a large camera's
            with Image.open(path) as image:
                sides = size[1], size[0]
                fitted = ImageOps.fit(image.convert("RGB"), sides, Image.Resampling.LANCZOS)
    except (*UNREADABLE, *NO_PICTURE) as error:
        raise ValueError(
            f"Got {shortened(str(path), 200)}, which can't be read ({shortened(str(error), 200)}), "
            "expected a picture. Remove or replace it."
        ) from error
    return torch.from_numpy(np.asarray(fitted, dtype=np.float32) / 255).permute(2, 0, 1)
