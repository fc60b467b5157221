"""How fast, side by side: what the scripts `benchmarks/speed_*.py` share."""
