"""Networks without parameters whose reliance is known, and batches for them to read."""

from itertools import pairwise

import torch

from equipoise.models.features import Features

MODALITIES = ("eo", "sar", "ir")


class Reader:
    """Each image's one band is evidence for class 1 of 2, weighted by modality; evidence adds up."""

    def __init__(self, *weights, modalities=MODALITIES):
        self.modalities = modalities
        self.weights = dict(zip(modalities, weights, strict=True))

    def encode(self, image, *, valid=None, available=None):  # noqa: ARG002 (the protocol's)
        shares = {
            name: [torch.ones_like(data[:, :1]) if valid is None else valid[name][:, None].float()]
            for name, data in image.items()
        }
        size = tuple(next(iter(image.values())).shape[-2:])
        return Features(maps={name: [data] for name, data in image.items()}, shares=shares, size=size)

    def fuse(self, features, available):
        seen = [
            features.maps[name][0] * features.shares[name][0] * available[:, m, None, None, None]
            for m, name in enumerate(self.modalities)
        ]
        return [self.joined(seen)]

    def joined(self, seen):
        return sum(weight * part for weight, part in zip(self.weights.values(), seen, strict=True))

    def decode(self, fused, *, size):  # noqa: ARG002 (the protocol's)
        return torch.cat([-fused[0], fused[0]], dim=1)


class Multiplier(Reader):
    """Knows the class only from the product of two modalities, and nothing from one alone."""

    def joined(self, seen):
        return 50.0 * seen[0].sign() * seen[1].sign()


class PerClass(Reader):
    """Four classes: ``eo`` tells 0 from 1 and ``sar`` 2 from 3; ``ir`` tells the pairs apart and is always believed."""

    def decode(self, fused, *, size):  # noqa: ARG002 (the protocol's)
        return fused[0]

    def joined(self, seen):
        eo, sar, ir = seen
        return torch.cat([-eo - ir, eo - ir, -sar + ir, sar + ir], dim=1) * 20


def clues(count=48, *, seed=0, missing=0.0, noise=0.1, size=4, modalities=MODALITIES):
    """One batch: every modality shows +1 for class 1 and -1 for class 0, with noise."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.randint(0, 2, (count, size, size), generator=generator)
    clue = (2.0 * mask - 1)[:, None]
    image = {name: clue + noise * torch.randn(clue.shape, generator=generator) for name in modalities}
    available = torch.rand(count, len(modalities), generator=generator) >= missing
    return {"image": image, "available": available, "mask": mask}


def chunked(batch, *sizes):
    """Cut a batch into batches of these sizes."""
    edges = [0, *torch.tensor(sizes).cumsum(0).tolist()]
    assert edges[-1] == len(batch["mask"])

    def cut(value, low, high):
        return {name: part[low:high] for name, part in value.items()} if isinstance(value, dict) else value[low:high]

    return [{key: cut(value, low, high) for key, value in batch.items()} for low, high in pairwise(edges)]
