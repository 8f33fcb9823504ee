"""Benchmarks of numbaconv: airspeed velocity's suite in `benchmarks`, the comparison with PyTorch in `peers`."""
