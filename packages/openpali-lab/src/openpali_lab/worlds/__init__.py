"""The composed world: images whose every pixel is known, and the builders of what it is composed from."""
