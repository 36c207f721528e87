#!/usr/bin/env python3
"""`sterna train kge` beside PyTorch-BigGraph and PyKEEN: scores of negatives a second, by turns in one run.

    python3 bench/kge.py --data FB15k-237 --threads 2

All train ComplEx of the same dimension by Adagrad on the same triples, with the same number of negatives: Sterna and BigGraph
score each of a triple's two queries (head asked, tail asked) with N of them, shared within a batch or chunk; PyKEEN draws
N for each triple by itself, of either side. What is counted is triples x negatives of all queries, divided by the seconds of an
epoch: the fastest epoch of all rounds, so that other load on the machine counts as little as can be. Start-up, the peers'
first epoch and evaluation are left out.

The peers live in a virtual environment of their own (--venv, made by pip when it is not there).
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

BATCH = 1000


def biggraph(arguments, folder):
    """Seconds of each epoch by PyTorch-BigGraph, as it prints them."""
    import typing

    from torchbiggraph import schema
    from torchbiggraph.config import ConfigSchema, EntitySchema, RelationSchema
    from torchbiggraph.converters.import_from_tsv import convert_input_data
    from torchbiggraph.train import train
    from torchbiggraph.util import SubprocessInitializer, setup_logging

    def unpack_optional(kind):
        if typing.get_origin(kind) is not typing.Union:
            raise TypeError("Not an optional type")
        return typing.get_args(kind)[0]

    # Version 1.0.0 compares types by identity, which does not hold for those of newer Pythons.
    schema.unpack_optional = unpack_optional

    relation = RelationSchema(name="all", lhs="all", rhs="all", operator="complex_diagonal")
    config = ConfigSchema(
        entity_path=folder, edge_paths=[folder + "/train"], checkpoint_path=folder + "/model",
        entities={"all": EntitySchema(num_partitions=1)}, relations=[relation], dynamic_relations=True,
        dimension=2 * arguments.dim, global_emb=False, comparator="dot", loss_fn="softmax", lr=0.1,
        num_epochs=arguments.epochs + 1, batch_size=BATCH, num_uniform_negs=arguments.negatives,
        num_batch_negs=0, workers=arguments.threads, eval_fraction=0.0, verbose=1,
    )
    edges = [pathlib.Path(arguments.data) / "train.txt"]
    convert_input_data(
        config.entities, config.relations, config.entity_path, config.edge_paths, edges,
        lhs_col=0, rhs_col=2, rel_col=1, dynamic_relations=True,
    )
    setup_logging()
    initializer = SubprocessInitializer()
    initializer.register(setup_logging, config.verbose)
    train(config, subprocess_init=initializer)


def pykeen(arguments):
    """Seconds of each epoch by PyKEEN."""
    import torch
    from pykeen.losses import SoftplusLoss
    from pykeen.models import ComplEx
    from pykeen.sampling import BasicNegativeSampler
    from pykeen.training import SLCWATrainingLoop, TrainingCallback
    from pykeen.triples import TriplesFactory

    torch.set_num_threads(arguments.threads)
    triples = TriplesFactory.from_path(str(pathlib.Path(arguments.data) / "train.txt"))
    model = ComplEx(triples_factory=triples, embedding_dim=arguments.dim, loss=SoftplusLoss(), random_seed=1)
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.1)

    class Clock(TrainingCallback):
        started, seconds = time.perf_counter(), []

        def post_epoch(self, epoch, epoch_loss, **kwargs):
            self.seconds.append(time.perf_counter() - self.started)
            self.started = time.perf_counter()

    loop = SLCWATrainingLoop(
        model=model, triples_factory=triples, optimizer=optimizer,
        negative_sampler=BasicNegativeSampler, negative_sampler_kwargs={"num_negs_per_pos": arguments.negatives},
    )
    clock = Clock()
    loop.train(
        triples, num_epochs=arguments.epochs + 1, batch_size=arguments.batch or BATCH, use_tqdm=False, use_tqdm_batch=False,
        callbacks=clock, num_workers=0, pin_memory=False,
    )
    print(json.dumps(clock.seconds))


def environment(threads):
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    return {**os.environ, **{name: str(threads) for name in names}, "PYTHONWARNINGS": "ignore"}


def run_peer(arguments, python, peer):
    command = [python, __file__, "--peer", peer, "--data", arguments.data, "--threads", str(arguments.threads)]
    for name in ("dim", "negatives", "epochs", "batch"):
        command += [f"--{name}", str(getattr(arguments, name))]
    # BigGraph runs a process for each thread, so each of them has one.
    threads = 1 if peer == "biggraph" else arguments.threads
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment(threads)
    )
    if done.returncode != 0:
        sys.exit(f"{peer} failed:\n{done.stdout[-2000:]}")
    if peer == "pykeen":
        return json.loads(done.stdout.strip().splitlines()[-1])[1:]
    return [float(found) for found in re.findall(r"Trained \d+ edges in ([0-9.]+) s|Processed \d+ edges in ([0-9.]+) s", done.stdout)
            for found in found if found][1:]


def run_sterna(arguments):
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = [arguments.sterna, "train", "kge", "--data", arguments.data, "--workers", str(arguments.threads)]
        command += ["--dim", str(arguments.dim), "--negatives", str(arguments.negatives), "--valid-max", "100"]
        command += ["--batch", str(BATCH), "--epochs", str(arguments.epochs), "--valid-every", "0", "--patience", "0"]
        command += ["--report", report.name]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return json.load(open(report.name))["epoch_seconds"]


def compare(arguments, python):
    with open(pathlib.Path(arguments.data) / "train.txt", encoding="utf-8") as file:
        triples = sum(1 for _ in file)
    # Queries of a triple.
    sides = {"sterna": 2, "biggraph": 2, "pykeen": 1}
    seconds = {name: [] for name in ["sterna", *arguments.peers.split(",")]}
    for _ in range(arguments.rounds):
        for name, found in seconds.items():
            new = run_sterna(arguments) if name == "sterna" else run_peer(arguments, python, name)
            print(f"{name}: " + ", ".join(f"{one:.2f} s" for one in new), file=sys.stderr)
            found += new
    print(
        f"{pathlib.Path(arguments.data).name}, ComplEx d={arguments.dim}, {arguments.negatives} negatives, "
        f"{arguments.threads} thread(s), {arguments.rounds} rounds of {arguments.epochs} epochs"
    )
    print(f"{'':10} {'s an epoch':>10} {'triples/s':>12} {'x negatives/s':>14} {'Sterna is':>10}")
    rates = {}
    for name, found in seconds.items():
        best = min(found)
        rates[name] = sides[name] * triples * arguments.negatives / best
        ratio = "" if name == "sterna" else f"{rates['sterna'] / rates[name]:9.1f}x"
        print(f"{name:10} {best:10.2f} {triples / best:12.0f} {rates[name] / 1e6:12.1f} M {ratio:>10}")


def virtual_environment(folder):
    python = pathlib.Path(folder) / "bin" / "python"
    if not python.exists():
        print(f"installing torchbiggraph and pykeen into {folder} ..", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        packages = ["setuptools<81", "torch", "torchbiggraph", "pykeen"]
        subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
    return str(python)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, metavar="DIR", help="folder with train.txt, valid.txt, test.txt")
    parser.add_argument("--threads", type=int, default=1, help="of all sides (default 1)")
    parser.add_argument("--dim", type=int, default=128, help="complex dimensions (default 128)")
    parser.add_argument("--negatives", type=int, default=500, help="of each query (default 500)")
    parser.add_argument("--epochs", type=int, default=2, help="of each round (default 2)")
    parser.add_argument("--rounds", type=int, default=2, help="by turns (default 2)")
    parser.add_argument("--batch", type=int, default=0, help="PyKEEN's batch, if not 1000")
    parser.add_argument("--peers", default="biggraph,pykeen", help="of biggraph, pykeen")
    parser.add_argument("--sterna", default="target/release/sterna", help="the binary")
    parser.add_argument("--venv", default="target/venv-kge", help="the peers' virtual environment")
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer == "biggraph":
        with tempfile.TemporaryDirectory() as folder:
            biggraph(arguments, folder)
    elif arguments.peer == "pykeen":
        pykeen(arguments)
    else:
        compare(arguments, virtual_environment(arguments.venv))


if __name__ == "__main__":
    main()
