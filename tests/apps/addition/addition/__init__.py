"""Each device adds 1 to every number of the model."""
