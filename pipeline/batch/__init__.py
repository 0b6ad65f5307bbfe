"""Stage batch: maps of regions and of many scenes, in units that are mapped by workers and never twice."""
