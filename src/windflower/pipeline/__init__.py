"""One job end to end: find the fleet, check, run, report; the same steps wherever it runs."""
