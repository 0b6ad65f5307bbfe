"""One of several training processes that measure reliance together; prints what it then knows, as JSON.

Called with its rank, the number of processes and the file through which they find each other.
"""

import json
import sys

from fake_networks import MODALITIES, Reader, clues
from torch import distributed

from equipoise.models.balancing.share_control import ShareControl
from equipoise.models.balancing.share_watch import ShareWatch


def watched(numbers: list[int]) -> dict[str, list[float]]:
    """Return the shares that a network of known weights shows on batches of two, which can be rolled in one way."""
    network = Reader(2.0, 0.7, 0.2)
    watch = ShareWatch(MODALITIES, kinds=frozenset({"share", "information"}), seed=0)
    for number in numbers:
        batch = clues(2, seed=number, noise=0.8, size=16)
        features = network.encode(batch["image"])
        logits = network.decode(network.fuse(features, batch["available"]), size=features.size)
        watch.update(network, features, available=batch["available"], logits=logits, target=batch["mask"])
    return watch.compute()


def measured(rank: int) -> list[list[float]]:
    """Return what the controller knows after two steps, of which the second shows this process nothing."""
    control = ShareControl(2)
    control.measure({(0, 0): 0.1 + rank, (0, 1): 0.5})
    control.measure({(0, 0): 3.0} if rank == 1 else {})
    return control.reliance.tolist()


def main() -> None:
    """Join the others, measure and print."""
    rank, world, place = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    distributed.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=world)
    found = {"measured": measured(rank), "watched": watched(list(range(rank, 4, world)))}
    distributed.destroy_process_group()
    print(json.dumps(found))  # noqa: T201 (the answer to the test)


if __name__ == "__main__":
    main()
