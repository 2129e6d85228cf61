"""Pictures to keep: whatever a file is, it is read, or named with what is wrong with it."""

from __future__ import annotations

import struct

import pytest
from PIL import Image

from erase_engine.cli.pictures import pictures_in, read_picture


@pytest.fixture
def bmp(tmp_path):
    path = tmp_path / "a.bmp"
    Image.new("RGB", (8, 8)).save(path)
    return path


def test_a_picture_of_gigabytes_is_named(bmp):
    data = bytearray(bmp.read_bytes())
    data[18:26] = struct.pack("<ii", 60_000, 60_000)
    bmp.write_bytes(data)
    with pytest.raises(
        ValueError, match=r"Got .*a\.bmp, which can't be read \(Image size .*Remove"
    ):
        read_picture(bmp, (8, 8))


def test_a_large_camera_s_picture_is_read_without_a_warning(bmp, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    assert read_picture(bmp, (8, 8)).shape == (3, 8, 8)


def test_what_is_wrong_is_told_in_letters_that_are_seen(tmp_path):
    folder = tmp_path / "\u202e\n"
    with pytest.raises(ValueError, match=r"Got .* for --keep-images, expected a folder") as error:
        pictures_in(folder)
    assert str(error.value).isprintable()
    folder.mkdir()
    (folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)
    with pytest.raises(ValueError, match=r"a\.png, which can't be read \(.*Remove or") as error:
        read_picture(folder / "a.png", (8, 8))
    assert str(error.value).isprintable()
