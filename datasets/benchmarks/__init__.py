"""Public benchmark data sets of several sensors: one file each, all giving the same sample."""
