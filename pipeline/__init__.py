"""Pipeline: the stages in the order in which data passes through them, and the command line."""

if __name__ == "pipeline":
    # Imported by its bare folder name, this package would shadow unrelated packages of that name.
    raise ImportError("found a bare import of 'pipeline'; wanted 'equipoise.pipeline'; run `make` and import that")


def __getattr__(name: str) -> object:
    """Give ``coregister``, which works on xarray images, to those who ask for it: its imports take seconds."""
    if name == "coregister":
        from .coregister_arrays import coregister

        return coregister
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
