"""Numba functions in plain loops over the types of `numbaconv.simd`."""
