"""What crosses the network: bytes to values and back. No I/O, no clock, no numpy."""
