"""Records the train node's panel in a real page while it trains: docs/training.webp.

Each frame is what the page showed. Frames that look alike are one, and of many some are left out.
All are shown equally long, so that it runs faster than the training did.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path

from comfy_page import CLASSIC, Page, chromium, open_page, write_settings
from comfy_server import PACK, comfy_server
from make_screenshots import prepare
from PIL import Image
from playwright.sync_api import expect
from screens import PATIENCE_MS, TRAIN
from setup import comfyui_path

MOVIE = PACK / "docs" / "training.webp"
ZOOM, EDGE, TOP = 1.5, 6, 200  # of the canvas; pixels around the panel, and above it on the page
MOVE = "dy => { app.canvas.ds.offset[1] += dy; app.canvas.setDirty(true, true); }"
STEP_MS, LAST_MS = 180, 4000  # how long a frame is shown, and the last one
PAUSE_MS = 250  # between two looks at the page
FRAMES_BY_PAUSE = PATIENCE_MS // PAUSE_MS  # at the most
MOST, QUALITY = 60, 70  # frames; of WebP


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--concept", default="star", help="a word that the tiny world draws")
    parser.add_argument("--kind", default="object", help="object, style or relation")
    options = parser.parse_args()
    expect.set_options(timeout=PATIENCE_MS)
    with (
        tempfile.TemporaryDirectory() as base,
        comfy_server(comfyui_path(), Path(base)) as server,
        chromium() as browser,
    ):
        write_settings(server.base, CLASSIC)
        with open_page(browser, server) as page:
            prepare(page)
            page.set_widgets(TRAIN, concept=options.concept, kind=options.kind, preview_every=2)
            save(recorded(page))


def recorded(page: Page) -> list[Image.Image]:
    """Frames of the panel, from its first pictures to the end; RuntimeError without an end."""
    page.look_at(TRAIN, zoom=ZOOM)
    page.queue()
    frames: list[Image.Image] = []
    for _ in range(FRAMES_BY_PAUSE):
        page.tab.wait_for_timeout(PAUSE_MS)
        state = page.views().first.get_attribute("data-state")
        if page.views().first.locator("img").count():
            frame = shot(page)
            if not frames or frame.tobytes() != frames[-1].tobytes():
                frames.append(frame)
        if state == "done":
            return frames
    raise RuntimeError(f"Got no end within {PATIENCE_MS // 1000} s, expected 'done'. Try again.")


def shot(page: Page) -> Image.Image:
    """The panel as it looks now. It moves as it grows: the canvas is moved to where it is seen."""
    panel = page.views().first
    while (box := panel.bounding_box()) and abs(box["y"] - TOP) > 1:
        page.run(MOVE, (TOP - box["y"]) / ZOOM)
        page.tab.wait_for_timeout(PAUSE_MS)
    assert box
    clip = {"x": box["x"] - EDGE, "y": box["y"] - EDGE}
    clip |= {side: box[side] + 2 * EDGE for side in ("width", "height")}
    return Image.open(io.BytesIO(page.tab.screenshot(clip=clip))).convert("RGB")  # type: ignore


def save(frames: list[Image.Image]) -> None:
    """As large as the largest frame: the panel grows as it gets more to show."""
    if len(frames) > MOST:
        frames = [frames[at * (len(frames) - 1) // (MOST - 1)] for at in range(MOST)]
    width, height = (max(sides) for sides in zip(*(each.size for each in frames), strict=True))
    ground = frames[-1].getpixel((1, 1))
    sheets = [Image.new("RGB", (width, height), ground) for _ in frames]  # type: ignore
    for sheet, frame in zip(sheets, frames, strict=True):
        sheet.paste(frame)
    sheets[0].save(
        MOVIE,
        save_all=True,
        append_images=sheets[1:],
        duration=[STEP_MS] * (len(sheets) - 1) + [LAST_MS],
        loop=0,
        quality=QUALITY,
        method=6,
    )
    size = MOVIE.stat().st_size // 1024
    print(f"wrote {MOVIE.relative_to(PACK)}: {len(frames)} frames, {size} KB")


if __name__ == "__main__":
    main()
