"""What is left of a network when sensors are missing or weak: every way of training, one budget, all subsets."""
