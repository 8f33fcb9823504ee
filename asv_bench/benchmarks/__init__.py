"""The suite that airspeed velocity runs: `asv run`, `asv continuous`, `asv publish`."""
