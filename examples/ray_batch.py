"""
A Ray Dataset with an answer to each row, on a cluster of this machine.

    pip install 'aistats-sdk[ray]'
    export AI_STATS_API_KEY=...  # and AI_STATS_BASE_URL, for another gateway than the public one
    python examples/ray_batch.py

On a real cluster, set the key on its machines, and give `ray.init` the cluster's address.
"""

from __future__ import annotations

import ray

from aistats.ray import ChatActor

ACTORS = 2
REVIEWS = ["Lovely.", "It broke on the first day.", "It does what it says.", "Never again!"]


def main() -> None:
    ray.init(num_cpus=ACTORS + 1, include_dashboard=False)
    reviews = ray.data.from_items([{"id": n, "review": REVIEWS[n % 4]} for n in range(200)])
    answered = reviews.map_batches(
        ChatActor,
        batch_format="pyarrow",
        batch_size=50,
        compute=ray.data.ActorPoolStrategy(size=ACTORS),
        fn_constructor_kwargs={
            "workers": ACTORS,
            "rpm": 6000,  # of both together
            "model": "openai/gpt-5-nano",
            "prompt": lambda row: f"Good or bad? One word. {row['review']}",
            "dedup": False,  # ask for each, though there are but four
        },
    ).to_pandas()

    for row in answered.head(4).itertuples():
        print(row.id, row.text, row.error, row.request_id)
    failed, costs = answered["error"].notna().sum(), answered["cost"].dropna()
    price = f"{costs.sum():.4f} USD" if len(costs) else "no price"
    print(f"{len(answered)} rows, {failed} failed, {price}")


if __name__ == "__main__":
    main()
