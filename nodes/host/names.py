"""Names of files and folders that a person writes into a widget."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ...erase_engine.validation import shortened, told

RESERVED = r"(?i)(con|prn|aux|nul|com[\d¹²³]|lpt[\d¹²³])(\.|$)"  # Windows' own names
LONGEST_PART = 200  # bytes of a folder's or file's name; disks take 255, a number is added


@dataclass(frozen=True)
class Names:
    """What is named, where it lies, and how to say so."""

    kind: str  # such as "file name"
    place: str  # such as "models/loras"
    examples: str

    def path(self, root: Path, name: str) -> Path:
        """The name as a path in `root`.

        Raises:
            ValueError: it is absolute, climbs out of the folder, cannot be a file's on some
                system, or leads through a file.
        """
        parts = PurePosixPath(name).parts
        bad = re.search(r'[\x00-\x1f\x7f\ud800-\udfff<>:"|?*\\]', name) or name.startswith("/")
        # Upwards, or a name that disks change; none at all is the folder itself.
        upwards = not parts or any(part.endswith((".", " ")) for part in parts)
        reserved = any(re.match(RESERVED, part) for part in parts)
        long = any(len(part.encode(errors="replace")) > LONGEST_PART for part in parts)
        if bad or upwards or long or reserved or name.endswith("/"):
            raise ValueError(
                f"Got the {self.kind} {told(name)}, expected a name inside {self.place}, such as "
                f"{self.examples}, each part of at most {LONGEST_PART} bytes. Leave out '..', a "
                "drive, a leading '/', and signs and names that some systems can't have, as CON."
            )
        path = root / name
        blocked = next((one for one in path.parents if one.exists() and not one.is_dir()), None)
        if blocked:
            raise ValueError(
                f"Got the {self.kind} '{shortened(name)}', but {blocked.name} is a file, expected "
                "folders before the last '/'. Choose another folder's name."
            )
        return path
