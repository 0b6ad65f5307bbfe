"""Names of splits beside training, validation and test."""

#: Patches of training places that have too few labels to train on: stage distill reads them.
UNLABELLED = "unlabelled"
