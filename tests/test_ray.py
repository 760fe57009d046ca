"""
A Ray Dataset on a real cluster of Ray's, on this machine.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from servers import Gateway, until
from test_worker import output_of, told_by

pytestmark = [
    pytest.mark.skipif(
        not all(map(importlib.util.find_spec, ("ray", "pandas", "pyarrow"))),
        reason="needs the extra `ray`",
    ),
    pytest.mark.timeout(180),
]

EXAMPLE = Path(__file__).parent.parent / "examples" / "ray_batch.py"


def test_dataset(gateway: Gateway, tmp_path: Path):
    """
    Each row has its answer or its error, of the same types in each batch, by several actors, whose
    clients are closed when they end; and the key is not in the dataset.
    """
    names, rows = told_by(
        f"NOTES = {str(tmp_path)!r}"
        """
import json, os, pathlib
import ray, ray.cloudpickle
from aistats.ray import ChatActor

class Noted(ChatActor):
    def __del__(self):
        super().__del__()
        pathlib.Path(NOTES, str(os.getpid())).write_text(str(self._worker._client.is_closed))

ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False)
ray.data.DataContext.get_current().enable_progress_bars = False
lines = [{"id": n, "line": "" if 10 <= n < 20 else f"row {n}"} for n in range(40)]
dataset = ray.data.from_items(lines, override_num_blocks=4).map_batches(
    Noted,
    batch_format="pyarrow",
    batch_size=10,
    compute=ray.data.ActorPoolStrategy(size=2),
    fn_constructor_kwargs={
        "workers": 2,
        "concurrency": 4,
        "prefix": "its_",
        "model": "openai/gpt-5-nano",
        "prompt": lambda row: row["line"] and row["line"].upper() or None,
    },
)
assert os.environ["AI_STATS_API_KEY"].encode() not in ray.cloudpickle.dumps(dataset)
dataset = dataset.materialize()
print(json.dumps([list(map(str, dataset.schema().types)), dataset.take_all()]))
""",
        gateway,
    )
    rows.sort(key=lambda row: row["id"])

    assert names == ["int64", "string", *["string"] * 3, "int64", "int64", "double", "string"]
    assert [row["id"] for row in rows] == [*range(40)]
    assert {row["its_error"] is None for row in rows[10:20]} == {False}
    assert {row["its_text"] for row in rows[10:20]} == {None}
    answered = rows[:10] + rows[20:]
    assert [row["its_text"] for row in answered] == [row["line"].upper() for row in answered]
    assert len(gateway.requests) == 30
    until(lambda: gateway.open_connections == 0)
    assert [note.read_text() for note in tmp_path.iterdir()] == ["True"] * 2


def test_batch_format(gateway: Gateway, monkeypatch: pytest.MonkeyPatch):
    """
    A batch of another format is refused, with the one that is needed.
    """
    from aistats import ConfigurationError
    from aistats.ray import ChatActor

    monkeypatch.setenv("AI_STATS_API_KEY", "key")
    actor = ChatActor(workers=1, model="openai/gpt-5-nano")

    with pytest.raises(ConfigurationError, match='batch_format="pyarrow"'):
        actor({"line": ["a"]})
    assert gateway.requests == []


def test_example(gateway: Gateway):
    """
    The example runs as it is, and each of its rows is asked once.
    """
    printed = output_of(gateway, str(EXAMPLE)).splitlines()

    assert printed[-1] == "200 rows, 0 failed, no price"
    assert len(gateway.requests) == 200
