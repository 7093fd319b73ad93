"""Scale and endurance of the real code: real processes, a real broker, thousands of agents.

- a *storm*: the broker is killed, and every device of a large fleet comes back at once;
- a *restart*: a gateway whose journal is long takes up the exchange that was open;
- a *soak*: a small fleet works for long while its broker dies again and again.

The tests assert facts only: what was answered, how often, what grew. How long it took is printed
and recorded, since a shared machine makes no promise. `python -m scale --help` (with
`PYTHONPATH=src:tests`) does the same at any size.
"""
