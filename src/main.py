"""`python src/main.py` serves, with the flags of `balancer serve`; `uvicorn src.main:app` serves `app`."""

import sys
from pathlib import Path

# `uvicorn src.main:app` puts only the project's root on the path, and `balancer` may not be installed.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from balancer.app import create_app
from balancer.cli import main

app = create_app()

if __name__ == "__main__":
    sys.exit(main(["serve", *sys.argv[1:]]))
