"""PaLI as a transformers class."""
