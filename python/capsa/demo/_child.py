"""``capsa …`` as a process that ends with the one that started it, even where that one is killed.

python -m capsa.demo._child serve FOLDER …
"""

from __future__ import annotations

import ctypes
import runpy
import signal
import sys
from typing import Final

#: `prctl(2)`: the signal that this process gets when the thread that started it ends.
_PR_SET_PDEATHSIG: Final = 1

if __name__ == "__main__":
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    runpy.run_module("capsa", run_name="__main__", alter_sys=True)
