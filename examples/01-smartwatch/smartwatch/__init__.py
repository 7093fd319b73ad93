"""Ten people, ten smartwatches, one model of seven exercises: a plain Flower app."""
