"""Exhaustive crash points: real processes, killed before each effect in turn, then started again.

An *effect* is whatever outlives a process or leaves it: a commit, a write, a sync, a rename, a
request, a published message. The effects of one role, agent or gateway, are numbered as they come.
A case kills a role with SIGKILL immediately before effect number i, starts it again, and checks
from outside what is left when the run has ended. A write that is killed leaves half of its bytes.

`python -m crash --help` (with `PYTHONPATH=src:tests`) says how to see a case again.
"""
