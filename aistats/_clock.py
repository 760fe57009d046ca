"""
The monotonic clock that all waiting goes by.
"""

from __future__ import annotations

import functools
import time
from typing import Final

__all__ = ("monotonic",)

# freezegun and its like replace `time.monotonic` itself, in every module that has it; then a call
# that waits for a frozen clock would never end. They don't look into a partial.
monotonic: Final = functools.partial(time.monotonic)
"""Return seconds since some moment; a clock that neither jumps nor stops."""
