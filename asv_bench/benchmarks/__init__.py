"""The suite that airspeed velocity runs: `asv run`, `asv continuous`, `asv publish`."""

import os
import sys
from pathlib import Path

if os.environ.get("ASV_ENV_TYPE", "existing") != "existing":
    # An environment that asv has built keeps its compiled code inside it, apart from what the user has.
    os.environ.setdefault("NUMBACONV_CACHE_DIR", str(Path(sys.prefix) / "numbaconv-cache"))
