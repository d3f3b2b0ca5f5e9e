"""Ray: many processes that serve, or that answer the samples of a file."""
