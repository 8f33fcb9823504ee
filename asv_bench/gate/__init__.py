"""The gate: two commits measured interleaved in one run; a slowdown that is reproduced fails."""
