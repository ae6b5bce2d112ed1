"""What all pictures have in common, for `matplotlib.rc_context`."""

from typing import Any, Final

PICTURE_STYLE: Final[dict[Any, Any]] = {
    "svg.hashsalt": "rpp-env",  # names of clip paths and markers are random without it
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
