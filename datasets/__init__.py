"""Datasets: what was observed. Scenes, grids, stacks, patches, splits and statistics."""

if __name__ == "datasets":
    # Imported by its bare folder name, this package would shadow unrelated packages of that name.
    raise ImportError("found a bare import of 'datasets'; wanted 'equipoise.datasets'; run `make` and import that")
