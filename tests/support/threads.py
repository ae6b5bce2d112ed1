"""What tests of threads share."""

import time


def let_others_run():
    """Sleeps in small steps, of which a time in which this process is not scheduled uses up one."""
    for _ in range(20):
        time.sleep(0.005)


def wait_until(is_true, seconds=60):
    """Returns as soon as `is_true()` is; fails after `seconds`."""
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.01)
