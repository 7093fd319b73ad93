"""Turns events into what people and machines look at."""
