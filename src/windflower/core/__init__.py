"""What happens, decided without I/O: time is an argument, effects are values.

Both sides are state machines that take one event at a time and return effects. The rule of both:
*effects are carried out in order, and one that records is durable before the next begins.*
"""
