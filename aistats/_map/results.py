"""
The results of a run, for both clients: outcomes, texts, tables, usage, cost, and the retry.
"""

from __future__ import annotations

import importlib
import operator
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Self

import attrs

from .._errors import ConfigurationError
from .._options import Budget
from .._progress import FailureGroup, Latency, Progress
from .._show.progress import Display
from .._views.usage import Usage, tokens_as_shown
from .engine import Engine
from .outcome import COLUMNS, Outcome, as_shown
from .plan import Plan
from .source import Row, Rows, Source
from .statistics import Statistics

__all__ = ("AnyRun",)

_index: Callable[[Row], int] = operator.itemgetter(1)
_index_of: Callable[[Outcome], int] = operator.attrgetter("index")


class AnyRun:
    """
    Everything that `Run` and `AsyncRun` share. Only waiting for results differs between them.
    """

    _how_to_start = "not started: run.wait(), run.texts() and iterating start it"

    def __init__(
        self, plan: Plan, source: Rows | Source, before: Mapping[int, Outcome] | None = None
    ) -> None:
        self._plan = plan
        self._source = source if isinstance(source, Source) else Source(source)
        self._before = dict(before or {})  # outcomes of an earlier run, of which this is a retry
        self._engine: Engine | None = None
        self._display: Display | None = None
        self._keeps = False
        self._later: Self | None = None  # the retry of this one

    @property
    def stopped(self) -> str | None:
        """
        Why the run ended before the last row; `None` if it did not.
        """
        stopped = None if self._engine is None else self._engine.stopped
        return stopped or self._source.failed

    @property
    def is_done(self) -> bool:
        """
        Whether it has ended.
        """
        return self._engine is not None and self._engine.is_over

    @property
    def progress(self) -> Progress:
        """
        A snapshot of the run's progress.
        """
        if self._engine is not None:
            return self._engine.progress()
        concurrency = self._plan.gateway.limits.concurrency
        if self._plan.concurrency != "auto":
            concurrency = min(self._plan.concurrency, self._plan.gateway.limits.maximum)
        return attrs.evolve(Statistics().snapshot(self._total, 0, concurrency), cost=None)

    @property
    def _total(self) -> int | None:
        # How many rows this run has, where that is known.
        total = self._source.total
        return None if total is None else total - len(self._before)

    @property
    def usage(self) -> Usage:
        """
        The tokens of all answers that this run received. Cached answers count nothing.
        """
        return self._statistics().usage()

    @property
    def cost(self) -> Decimal | None:
        """
        What the answers that came in this run cost, in US dollars, as far as they had a price;
        `None` where none of them had one, and before the run has begun. An answer that was cut and
        asked again is billed, too: it counts as much as the others on average.
        """
        return None if self._engine is None else self._engine.statistics.price()

    @property
    def latency(self) -> Latency:
        """
        The latency of answers from the gateway.
        """
        return self._statistics().latency()

    @property
    def outcomes(self) -> list[Outcome]:
        """
        The outcomes in input order. A row that was never started has none.

        Raises:
            ConfigurationError: They were not kept, since the run was iterated.
        """
        again = self._finished().outbox.kept
        if not self._before:
            return sorted(again, key=_index_of)
        outcomes = {**self._before, **{outcome.index: outcome for outcome in again}}
        return sorted(outcomes.values(), key=_index_of)

    @property
    def errors(self) -> list[Outcome]:
        """
        The outcomes that have an error, in input order.

        Raises:
            ConfigurationError: They were not kept, since the run was iterated.
        """
        return [outcome for outcome in self.outcomes if not outcome.ok]

    def failures(self) -> list[FailureGroup]:
        """
        Return the errors of this run, grouped by reason, the most frequent first. Each group has a
        count, an example and advice. This works while the run goes on, and if it is iterated.
        """
        return self._statistics().failures.groups()

    def texts(self) -> list[str | None]:
        """
        Return the text of each row's answer, in input order; `None` where there is none. Of an
        iterator that was not read to its end, only as many rows are known as were pulled.

        Raises:
            ConfigurationError: They were not kept, since the run was iterated.
        """
        outcomes = self.outcomes
        texts: list[str | None] = [None] * max(self._source.next_index, self._source.total or 0)
        for outcome in outcomes:
            texts[outcome.index] = outcome.text
        return texts

    def to_dicts(self) -> list[dict[str, Any]]:
        """
        Return each outcome as a flat dict, in input order.

        Raises:
            ConfigurationError: They were not kept, since the run was iterated.
        """
        return [outcome.to_dict() for outcome in self.outcomes]

    def retry(self, *, budget: Budget | None = None) -> Self:
        """
        Return a new run of the rows that failed and of those that were never started.

        Its outcomes are those of all rows, the earlier answers among them; its numbers are its own.
        Asked for again, it is the same run, and once that has begun, the retry of that one: so
        nothing is asked twice, and nothing is out of reach if the retry is interrupted, too.

        Args:
            budget: What the retry may use. Default: what this run has left of its own budget.

        Raises:
            ConfigurationError: The outcomes were not kept, or the run is under way.
        """
        later = self._later
        if later is None:
            made: Self = self._of_rest(*self._rest())
            later = self._later = made
        elif later._engine is not None:
            return later.retry(budget=budget)
        if budget is not None:
            later._plan = attrs.evolve(later._plan, budget=budget)
        return later

    def to_pandas(self) -> Any:
        """
        Return the outcomes as a `pandas.DataFrame`, one row each, in input order.

        Where the rows were a pandas data frame or series, the result has their index, and a row
        for each of theirs: `df["answer"] = run.to_pandas()["text"]` puts each answer beside its
        row, whatever the index. A row that was never started is empty. Other rows get an index of
        their places in the input, called `index`.

        Raises:
            ConfigurationError: The outcomes were not kept, or pandas is not installed.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ImportError:
            raise ConfigurationError("to_pandas() needs pandas: pip install pandas") from None
        table = pandas.DataFrame(self.to_dicts(), columns=list(COLUMNS)).set_index("index")
        if (index := self._source.index) is not None:
            table = table.reindex(range(len(index)))
            table.index = index
        return table

    def __repr__(self) -> str:
        return _as_text(self, self._statistics(), "new" if self._engine is None else "under way")

    def _repr_html_(self) -> str:
        is_new = self._engine is None
        outcomes = self.outcomes if self._keeps and not is_new else ()
        return _as_html(
            self, outcomes, self._how_to_start if is_new else tokens_as_shown(self.usage)
        )

    def _ipython_display_(self) -> None:
        # A notebook shows a finished run in the place of its progress, not below it.
        is_shown = (
            self._display is not None
            and self.is_done
            and self._display.replace(self._repr_html_(), repr(self))
        )
        if not is_shown:
            raise NotImplementedError  # IPython then asks the other methods

    def _new_engine(self, *, is_ordered: bool, keep: bool, is_shared: bool) -> Engine:
        # Called on the event loop, so no other call can start the run in between.
        self._check_new()
        self._keeps = keep
        self._engine = Engine(
            self._plan,
            is_ordered=is_ordered,
            keep=keep,
            is_shared=is_shared,
            total=self._total,
            is_probed=self._source.is_probed,
            answers=self._source.answers,
        )
        return self._engine

    def _check_new(self) -> None:
        if self._engine is not None:
            where = "Its outcomes are in run.outcomes. " if self._keeps else ""
            raise ConfigurationError(
                f"A run is done once. {where}To ask anew, call map again; with a checkpoint "
                "nothing is asked twice."
            )

    def _statistics(self) -> Statistics:
        return Statistics() if self._engine is None else self._engine.statistics

    def _finished(self) -> Engine:
        raise NotImplementedError

    def _of_rest(self, source: Source, before: Mapping[int, Outcome]) -> Any:
        raise NotImplementedError

    def _kept(self) -> Engine:
        if self._engine is None:
            raise ConfigurationError("The run has not begun: await it first.")
        if not self._keeps:
            raise ConfigurationError(
                "The outcomes were handed out one by one and not kept; to keep them, await the run "
                "or call wait() in place of iterating."
            )
        return self._engine

    def _rest(self) -> tuple[Source, dict[int, Outcome]]:
        # What is to be tried again, and what is done. The iterator goes on where it was left.
        engine = self._finished()
        if not engine.is_over:
            raise ConfigurationError("The run is under way: wait for its end first.")
        outcomes = self.outcomes
        again = [(each.row, each.index, each.key) for each in outcomes if not each.ok]
        again += [(each.row, each.index, each.key) for each in engine.outbox.unstarted]
        self._source.again = deque(sorted([*again, *self._source.again], key=_index))
        engine.outbox.unstarted = []
        self._source.is_probed = engine.admission.is_probed
        self._source.answers = engine.known.answers
        return self._source, {outcome.index: outcome for outcome in outcomes if outcome.ok}


def _as_text(run: AnyRun, numbers: Statistics, state: str) -> str:
    total = "" if run.progress.total is None else f" of {run.progress.total}"
    stopped = "" if run.stopped is None else f", stopped={run.stopped!r}"
    return (
        f"<{type(run).__name__} {'done' if run.is_done else state}: {numbers.done}{total}, "
        f"{numbers.failed} failed, {numbers.cached} cached{stopped}>"
    )


def _as_html(run: AnyRun, outcomes: Sequence[Outcome], fact: str) -> str:
    from .._show.cards import run_html

    failures = as_shown([each for each in outcomes if not each.ok])
    answers = as_shown([each for each in outcomes if each.ok])
    facts = [
        fact,
        *(f"{each.count:,} x {each.reason}: {each.advice}" for each in run.failures()[:3]),
    ]
    return run_html(run.progress, run.stopped, facts, failures, answers)
