"""A deterministic simulator of a whole fleet, which drives the real core through bad weather.

One seed is one run: `python -m sim SEED --trace` (with `PYTHONPATH=src:tests`) shows it again.
Nothing here waits, reads a clock or opens a socket.
"""
