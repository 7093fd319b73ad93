"""What is wrong with a machine, by how it vibrates: a plain Flower app."""
