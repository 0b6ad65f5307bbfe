"""Models: what is learned. Encoders, fusion, networks, losses, utilization; tensors only."""

if __name__ == "models":
    # Imported by its bare folder name, this package would shadow unrelated packages of that name.
    raise ImportError("found a bare import of 'models'; wanted 'equipoise.models'; run `make` and import that")
