"""AWS played on one machine, as far as a fleet uses it: for the demo and for tests."""
