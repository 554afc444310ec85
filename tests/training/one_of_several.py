"""One process of several, for test_processes: trains a random Llama of two layers.

RANK=0 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=29511 python one_of_several.py CASE FOLDER
"""

import json
import shutil
import sys
import warnings
from pathlib import Path

from builders import Watcher
from toys import toy_examples, toy_model

from lmsi_cli.cli.main import at_once
from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.training import checkpoint, loop, processes
from lmsi_cli.training.adapter import trainable

LEADER, SECOND = 0, 1


def train(out, until=None):
    """Seventeen of nine examples, in steps of four: none of the last for the second process."""
    config = TrainConfig(rank=4, lr=0.02, batch_size=4, epochs=1.9, dropout=0.3, row_tokens=1536)
    net, items = toy_model(config), toy_examples()
    header = checkpoint.begun(items, config)
    loop.fit(net, loop.TrainingRun(items, config, "fp32", out, header), Watcher(until))
    return {name: p.detach().flatten().tolist() for name, p in trainable(net).items()}


def main(case, folder):
    import torch

    torch.set_num_threads(1)
    with processes.joined("cpu") as here:
        out = folder / str(here.rank)
        if here.rank != LEADER:
            shutil.rmtree(out, ignore_errors=True)
            if (folder / "0").is_dir():
                shutil.copytree(folder / "0", out)
        if case == "second fails" and here.rank == SECOND:
            raise LmsiError("the disk is full")
        processes.wait()
        until = 2 if "cut short" in case and here.rank == LEADER else None
        weights = train(out, until)
        (folder / f"{here.rank}.json").write_text(json.dumps(weights))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with at_once(several=True):
        try:
            main(sys.argv[1], Path(sys.argv[2]))
        except (LmsiError, KeyboardInterrupt) as e:
            sys.stderr.write(f"{type(e).__name__}: {e}\n")
            sys.exit(1)
