"""The benchmarks of the paper, each read from the files that its owners distribute."""
