"""A training batch as text: what the model reads, and which tokens carry loss."""

from __future__ import annotations

from openpali.data.pipeline.encode import Batch
from openpali.text.tokenizer import Tokenizer


def explain_batch(batch: Batch, tokenizer: Tokenizer, *, rows: int = 4) -> list[str]:
    """Lines of text about the first ``rows`` samples of a batch that a :class:`SequenceEncoder` made.

    Every target token except padding carries loss, the end token too; prompts and padding never do.
    """
    if not {"prompt", "target"} <= set(batch):
        raise ValueError(f"this batch has {', '.join(batch)}; only prompts and targets can be explained")
    target = batch["target"]
    real = target != tokenizer.pad_id
    shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in batch.items())
    lines = [
        f"batch: {shapes}",
        f"{int(real.sum())} of {real.numel()} target tokens carry loss; the others are padding",
    ]
    for row in range(min(rows, len(target))):
        prompt = [int(i) for i in batch["prompt"][row] if i != tokenizer.pad_id]
        lines += [
            "",
            f"sample {row}",
            f"  prompt  {tokenizer.decode(prompt)!r}",
            f"  target  {tokenizer.decode(target[row].tolist())!r}",
        ]
        lines.append(f"  reads   {' '.join(tokenizer.pieces(prompt))}  ({len(prompt)} tokens, no loss)")
        pieces = tokenizer.pieces(target[row].tolist())
        width = max(map(len, pieces))
        for position, (number, piece) in enumerate(zip(target[row].tolist(), pieces, strict=True)):
            mark = "loss" if real[row, position] else "-"
            lines.append(f"  {position:>5}  {number:>6}  {piece:<{width}}  {mark}")
    return lines
