"""What one rank does for `test_parallel.py`: ``python two_ranks.py FOLDER``, with torchrun's variables set."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from tiny_runs import OBJECTIVES, losses_of, parallel_recipe, plain_sgd

import openpali.train.trainer as trainer_module
from openpali.bundle import open_tokenizer
from openpali.train.ranks import join_ranks
from openpali.train.trainer import Trainer


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    trainer_module.build_optimizer = plain_sgd
    trainer_module.matmul_peak = lambda *_: 1e12
    with join_ranks() as ranks:
        for objective in OBJECTIVES:
            for mean in ("token", "example") if objective == "sequence" else ("token",):
                name = f"{objective}-{mean}"
                recipe = parallel_recipe(objective, mean)
                trainer = Trainer(recipe, folder / name, ranks, open_tokenizer("nano-vocabulary"))
                losses = losses_of(trainer)
                trainer.train()
                (folder / f"{name}-{ranks.rank}.json").write_text(json.dumps(losses))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
