"""Vector and register-tile types for Numba: the only folder that writes LLVM IR."""
