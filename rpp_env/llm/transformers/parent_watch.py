"""Ends a worker process when its parent is gone, however the parent ended (``kill -9`` too)."""

import os
import threading
import time
from typing import Final

_SECONDS: Final = 0.5  # between two looks


def end_with_parent() -> None:
    """Starts a thread that ends this process, at once, when its parent is another than now.

    Linux can send a signal instead (``PR_SET_PDEATHSIG``), but it does so too when only the thread
    ends that started this process, and such threads come and go.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="rpp-env parent watch", daemon=True).start()
