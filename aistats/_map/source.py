"""
The rows of a run: reads lists, iterators and data frames, and numbers the rows.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import OrderedDict, deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from typing import Any, Final

import attrs

from .._errors import AIStatsError, ConfigurationError
from .._exchange import Attempt
from .._request.request import ChatCompletionsRequest
from .._views.completion import ChatCompletionsResponse

__all__ = ("Item", "Row", "Rows", "Source")

Rows = Iterable[Any] | AsyncIterable[Any]
Row = tuple[Any, int, str | None]  # the row, its index, and its own key, if any

_END: Final = object()


@attrs.define(eq=False)
class Item:
    """
    A row and its request, until the row has an outcome.
    """

    position: int
    """Its place among the rows of this run, which may be a part of the input."""
    index: int
    row: Any
    key: str | None = None
    request_hash: str = ""
    request: ChatCompletionsRequest | None = None
    body: bytes = b""
    error: Exception | None = None
    """Why it is no request."""
    is_noted: bool = False
    """Whether its answer is in the checkpoint, under its key."""
    begun: float = 0.0
    """When it was first sent."""
    estimate: int = 0
    """About how many tokens it takes."""
    throttle: AIStatsError | None = None
    """Why it was put back, until it is sent again."""
    earlier: tuple[Attempt, ...] = ()
    """The tries after which it was put back and sent again."""
    followers: list[Item] = attrs.field(factory=list["Item"])
    """Those with the same request, which get the same answer."""


class Source:
    """
    The rows that have not been started yet, each with its index.

    A pulled row remains the next row until `taken` is called. So an interruption in between loses
    no row: a retry starts with it.
    """

    def __init__(self, rows: Rows) -> None:
        self.again: deque[Row] = deque()
        """Rows that were pulled before; they come first."""
        self.next_index = 0
        """How many rows are known: one more than the highest index of those taken."""
        self.is_probed = False
        """Whether the gateway has answered a run of them: then no single row speaks for all."""
        self.answers: OrderedDict[str, ChatCompletionsResponse] = OrderedDict()
        """Answers of an earlier run over these rows, by the hash of their request."""
        self.failed: str | None = None
        """What the rows themselves raised, in words: there may have been more of them."""
        self.total: int | None = None
        self.index: Any = None
        """The index of a pandas data frame or series; `None` where the rows are something else."""
        self.iterator: Iterator[Any] | AsyncIterator[Any]
        several: Any = rows
        if isinstance(several, str | bytes | bytearray | Mapping | ChatCompletionsRequest):
            kind: type[Any] = type(rows)
            raise ConfigurationError(
                f"rows must be many: a list, a generator, a column; not one {kind.__name__}. "
                "Write [row] for one row."
            )
        if hasattr(rows, "iter_rows") and hasattr(rows, "columns"):  # polars
            self.iterator = several.iter_rows(named=True)
        elif hasattr(rows, "itertuples") and hasattr(rows, "columns"):  # pandas
            names = list(several.columns)
            if twice := sorted({str(name) for name in names if names.count(name) > 1}):
                raise ConfigurationError(
                    f"The data frame has several columns called {', '.join(map(repr, twice))}; a "
                    "row is a dict, which can have only one. Rename or drop them."
                )
            values = several.itertuples(index=False, name=None)
            self.iterator = (dict(zip(names, each, strict=True)) for each in values)
        elif hasattr(several, "__aiter__"):
            self.iterator = aiter(several)
        elif hasattr(several, "__iter__"):
            self.iterator = iter(several)
        else:
            raise ConfigurationError(
                f"rows must be a list, a generator, an async iterator, a column or a data frame; "
                f"not {type(rows).__name__}"
            )
        with contextlib.suppress(TypeError):
            self.total = len(several)
        index = getattr(rows, "index", None)
        if hasattr(index, "nlevels"):  # a list has a method of that name
            self.index = index
        self._numbers = itertools.count()
        # An earlier run, which has ended, may still wait for the next row.
        self._pulling = asyncio.Lock()
        if isinstance(self.iterator, Iterator):
            self._numbered = zip(self.iterator, self._numbers, itertools.repeat(None), strict=False)

    @property
    def is_async(self) -> bool:
        """
        Whether rows have to be awaited.
        """
        return isinstance(self.iterator, AsyncIterator)

    def pull(self) -> Row | None:
        """
        Return the next row; `None` if there are no more.
        """
        if not self.again:
            # No Python code runs between the iterator and this line, so Ctrl-C can't come here.
            self.again.extend(itertools.islice(self._numbered, 1))
        return self.again[0] if self.again else None

    async def apull(self) -> Row | None:
        """
        Return the next row, awaited; `None` if there are no more.
        """
        if not self.again:
            assert isinstance(self.iterator, AsyncIterator)
            async with self._pulling:
                row = await anext(self.iterator, _END)
                if row is not _END:
                    self.again.append((row, next(self._numbers), None))
        return self.again[0] if self.again else None

    def taken(self) -> None:
        """
        Forget the row that was pulled last: it has been submitted.
        """
        self.next_index = max(self.next_index, self.again[0][1] + 1)
        self.again.popleft()

    def give_back(self, items: deque[Item]) -> None:
        """
        Put back the rows of *items*, which were taken last. They are the next rows again.
        """
        if items and self.again and items[-1].index == self.again[0][1]:
            items.pop()  # interrupted before it was taken
        self.again.extendleft((item.row, item.index, item.key) for item in reversed(items))
