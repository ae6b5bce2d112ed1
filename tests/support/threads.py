"""What tests of threads share."""

import time


def let_others_run():
    """Sleeps in small steps, of which a time in which this process is not scheduled uses up one."""
    for _ in range(20):
        time.sleep(0.005)
