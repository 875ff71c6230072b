"""`python -m afsfuse.manual FOLDER`: write manual pages and completions below a folder."""

import sys
from pathlib import Path

from afsfuse.manual.completions import all_scripts
from afsfuse.manual.pages import all_pages


def write(folder: Path) -> None:
    """Write everything: `man/*`, `completions/SHELL/*`."""
    files = {f"man/{name}": text for name, text in all_pages().items()}
    files |= {f"completions/{name}": text for name, text in all_scripts().items()}
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "build"))
