"""What a user waits for before the first result: import, first convolution, compilation, space on disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile

FIRST_CONVOLUTION = """
import numpy as np
import numbaconv as nc
nc.conv(np.ones((1, 8, 8, 3), np.float32), np.ones((3, 3, 3, 4), np.float32))
"""

# Runs in a process of its own, with an empty cache: prints one JSON object.
COLD = """
import json, time
start = time.perf_counter()
import numpy as np
import numbaconv as nc
nc.conv(np.ones((1, 8, 8, 3), np.float32), np.ones((3, 3, 3, 4), np.float32))
first = time.perf_counter() - start
summary = nc.warmup(progress=False)
figures = {"warmup": summary.seconds, "functions": summary.functions, "bytes": summary.cache.bytes}
print(json.dumps({"first": first} | figures))
"""


class Warm:
    """A fresh process that finds its code in the cache."""

    timeout = 300

    def setup(self):
        subprocess.run([sys.executable, "-c", FIRST_CONVOLUTION], check=True, cwd=tempfile.gettempdir())

    def timeraw_import(self):
        return "import numbaconv"

    def timeraw_first_convolution(self):
        return FIRST_CONVOLUTION

    timeraw_import.version = timeraw_first_convolution.version = "1"


class Cold:
    """A machine that has never run numbaconv; measured once for all four figures."""

    timeout = 900

    def setup_cache(self):
        with tempfile.TemporaryDirectory() as folder:
            environment = os.environ | {"NUMBACONV_CACHE_DIR": folder, "NUMBACONV_QUIET": "1"}
            command = [sys.executable, "-c", COLD]
            run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder)
        return json.loads(run.stdout)

    setup_cache.timeout = 900

    def track_first_convolution(self, figures):
        return figures["first"]

    def track_warmup(self, figures):
        return figures["warmup"]

    def track_compiled_functions(self, figures):
        return figures["functions"]

    def track_cache_size(self, figures):
        return figures["bytes"]

    track_first_convolution.unit = track_warmup.unit = "s"
    track_compiled_functions.unit = "functions"
    track_cache_size.unit = "bytes"
    track_first_convolution.version = track_warmup.version = "1"
    track_compiled_functions.version = track_cache_size.version = "1"
