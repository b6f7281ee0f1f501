"""What `benchmarks/speed.py` measures: rounds of the game by ganzoo, written plainly and by other libraries, and the
machine's own peak. `drivers` and what they import (`networks`, `timing`) run in a library's own environment, where
torch is all there is."""
