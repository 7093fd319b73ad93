"""One process, no broker, no disk: for tests, simulations and a first look."""
