"""Speaks for the fleet: commands out, replies in, recovery, and a desk where runs are served."""
