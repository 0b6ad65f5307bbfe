"""Pipeline: the stages in the order in which data passes through them, and the command line."""

if __name__ == "pipeline":
    # Imported by its bare folder name, this package would shadow unrelated packages of that name.
    raise ImportError("found a bare import of 'pipeline'; wanted 'equipoise.pipeline'; run `make` and import that")
