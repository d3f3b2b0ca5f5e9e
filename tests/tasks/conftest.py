from task_examples import empty, example, options, rng, tokenizer

__all__ = ["empty", "example", "options", "rng", "tokenizer"]
