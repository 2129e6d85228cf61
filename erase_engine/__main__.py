"""`python -m erase_engine`: erase a concept from a diffusers model; `--help` says how."""

import os

# Asked for before huggingface_hub is imported, which reads it once: every file is a local one.
os.environ["HF_HUB_OFFLINE"] = "1"

from .cli.train import main

if __name__ == "__main__":
    main()
