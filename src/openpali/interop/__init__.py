"""Weights of other projects, both ways: SigLIP and T5 checkpoints of transformers, `.npz` files of big_vision."""
