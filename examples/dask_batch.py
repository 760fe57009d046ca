"""
A Dask data frame with an answer to each row, on a cluster of this machine.

    pip install 'aistats-sdk[dask]'
    export AI_STATS_API_KEY=...  # and AI_STATS_BASE_URL, for another gateway than the public one
    python examples/dask_batch.py

On a real cluster, set the key on its machines, and give `Client` the scheduler's address.
"""

from __future__ import annotations

import dask.dataframe
import pandas as pd
from distributed import Client, LocalCluster

from aistats.dask import ChatPlugin, map_partitions

WORKERS = 2
REVIEWS = ["Lovely.", "It broke on the first day.", "It does what it says.", "Never again!"]


def main() -> None:
    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as workers,
    ):
        workers.register_plugin(ChatPlugin(workers=WORKERS, rpm=6000))  # of both together
        reviews = pd.DataFrame({"review": [REVIEWS[n % 4] for n in range(200)]})
        answered = map_partitions(
            dask.dataframe.from_pandas(reviews, npartitions=4),
            model="openai/gpt-5-nano",
            prompt=lambda row: f"Good or bad? One word. {row['review']}",
            dedup=False,  # ask for each, though there are but four
        ).compute()

    for row in answered.head(4).itertuples():
        print(row.Index, row.text, row.error, row.request_id)
    failed, costs = answered["error"].notna().sum(), answered["cost"].dropna()
    price = f"{costs.sum():.4f} USD" if len(costs) else "no price"
    print(f"{len(answered)} rows, {failed} failed, {price}")


if __name__ == "__main__":
    main()
