#!/usr/bin/env python3
"""`sterna train kge` beside PyTorch-BigGraph and PyKEEN: scores of negatives a second, by turns in one run, and how long
Sterna takes to be as good.

    python3 bench/kge.py --data FB15k-237 --threads 2
    python3 bench/kge.py --data FB15k-237 --quality --rounds 1 --epochs 10 --sterna-epochs 20 --negatives 100 --peers biggraph

All train ComplEx of the same dimension by Adagrad on the same triples, with the same number of negatives: Sterna and BigGraph
score each of a triple's two queries (head asked, tail asked) with N of them, shared within a batch or chunk; PyKEEN draws
N for each triple by itself, of either side. What is counted is triples x negatives of all queries, divided by the seconds of an
epoch: the fastest epoch of all rounds, so that other load on the machine counts as little as can be. Start-up, the peers'
first epoch and evaluation are left out.

With --quality the peer's model is ranked after its last epoch (all of valid.txt, both directions, other known answers left
out, ties at their mean rank), and Sterna's after every epoch: the seconds of training that each had taken when it was as
good as the peer became. There the peer's first epoch counts too.

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


def triples_of(arguments, split, entities, relations):
    with open(pathlib.Path(arguments.data) / f"{split}.txt", encoding="utf-8") as file:
        lines = [line.rstrip("\n").split("\t") for line in file]
    # A name that training never showed has a number of its own, and no row.
    number = lambda names, name: names.setdefault(name, len(names))
    return [(number(entities, h), number(relations, r), number(entities, t)) for h, r, t in lines]


def filtered_mrr(arguments, entities, relations, score):
    """MRR of the validation triples; `score(asked, relations, side)` is a matrix of all entities' scores as answers."""
    import torch

    trained = len(entities)
    splits = [triples_of(arguments, split, entities, relations) for split in ("train", "valid", "test")]
    total, queries = 0.0, 0
    for side, (asked, answer) in enumerate([(0, 2), (2, 0)]):
        known = {}
        for triple in (triple for split in splits for triple in split):
            known.setdefault((triple[asked], triple[1]), []).append(triple[answer])
        for first in range(0, len(splits[1]), 500):
            batch = splits[1][first : first + 500]
            scores = torch.zeros(len(batch), len(entities))
            rows = [min(triple[asked], trained - 1) for triple in batch]
            scores[:, :trained] = score(torch.tensor(rows), torch.tensor([triple[1] for triple in batch]), side)
            for row, triple in zip(scores, batch):
                own = row[triple[answer]].item()
                row[known[triple[asked], triple[1]]] = float("-inf")
                higher, equal = (row > own).sum().item(), (row == own).sum().item()
                total += 1.0 / (1.0 + higher + equal / 2)
                queries += 1
    return total / queries


def biggraph_mrr(arguments, folder):
    """Of the checkpoint in a folder."""
    import h5py
    import torch

    folder = pathlib.Path(folder)
    names = lambda kind: {name: n for n, name in enumerate(json.load(open(next(folder.glob(kind)))))}
    entities, relations = names("entity_names_all_0.json"), names("dynamic_rel_names.json")
    version = (folder / "model" / "checkpoint_version.txt").read_text().strip()
    with h5py.File(folder / "model" / f"embeddings_all_0.v{version}.h5") as file:
        rows = torch.tensor(file["embeddings"][...])
    # The left operator turns heads that a tail is asked for, the right one tails that a head is asked for.
    with h5py.File(folder / "model" / f"model.v{version}.h5") as file:
        part = lambda side, name: torch.tensor(file[f"model/relations/0/operator/{side}/{name}"][...])
        operators = [[part(side, name) for name in ("real", "imag")] for side in ("lhs", "rhs")]

    def score(asked, relation, side):
        real, imag = rows[asked].chunk(2, dim=1)
        turned_real, turned_imag = (one[relation] for one in operators[side])
        query = torch.cat([real * turned_real - imag * turned_imag, real * turned_imag + imag * turned_real], dim=1)
        return query @ rows.T

    return filtered_mrr(arguments, entities, relations, score)


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
    if arguments.quality:
        print(f"MRR {biggraph_mrr(arguments, folder)}")


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
    # Its own start, with a standard deviation of 1, takes hundreds of epochs to be forgotten.
    start = {f"{rows}_initializer": "xavier_normal_" for rows in ("entity", "relation")}
    model = ComplEx(triples_factory=triples, embedding_dim=arguments.dim, loss=SoftplusLoss(), random_seed=1, **start)
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
    if arguments.quality:
        import torch

        def score(asked, relation, side):
            with torch.no_grad():
                if side == 0:
                    return model.score_t(torch.stack([asked, relation], dim=1))
                return model.score_h(torch.stack([relation, asked], dim=1))

        entities, relations = dict(triples.entity_to_id), dict(triples.relation_to_id)
        print(f"MRR {filtered_mrr(arguments, entities, relations, score)}")
    print(json.dumps(clock.seconds))


def environment(threads):
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    return {**os.environ, **{name: str(threads) for name in names}, "PYTHONWARNINGS": "ignore"}


def run_peer(arguments, python, peer):
    command = [python, __file__, "--peer", peer, "--data", arguments.data, "--threads", str(arguments.threads)]
    for name in ("dim", "negatives", "epochs", "batch"):
        command += [f"--{name}", str(getattr(arguments, name))]
    if arguments.quality:
        command.append("--quality")
    # BigGraph runs a process for each thread, so each of them has one.
    threads = 1 if peer == "biggraph" else arguments.threads
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment(threads)
    )
    if done.returncode != 0:
        sys.exit(f"{peer} failed:\n{done.stdout[-2000:]}")
    mrr = [float(found) for found in re.findall(r"^MRR ([0-9.]+)$", done.stdout, re.MULTILINE)]
    if peer == "pykeen":
        seconds = json.loads(done.stdout.strip().splitlines()[-1])
    else:
        found = re.findall(r"Trained \d+ edges in ([0-9.]+) s|Processed \d+ edges in ([0-9.]+) s", done.stdout)
        seconds = [float(one) for pair in found for one in pair if one]
    return seconds, mrr


def run_sterna(arguments):
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = [arguments.sterna, "train", "kge", "--data", arguments.data, "--workers", str(arguments.threads)]
        command += ["--dim", str(arguments.dim), "--negatives", str(arguments.negatives), "--patience", "0"]
        epochs = arguments.sterna_epochs if arguments.quality else arguments.epochs
        every, most = ("1", "0") if arguments.quality else ("0", "100")
        command += ["--batch", str(BATCH), "--epochs", str(epochs), "--valid-every", every, "--valid-max", most]
        command += ["--report", report.name]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        found = json.load(open(report.name))
        return found["epoch_seconds"], [(one["seconds"], one["quality"]["mrr"]) for one in found["validations"]]


def tell_quality(sterna, peers):
    """How long each took to be as good as a peer became in its epochs."""
    print(f"\n{'':10} {'epochs':>6} {'MRR':>6} {'training':>10} {'Sterna as good after':>21} {'ratio':>7}")
    for name, runs in peers.items():
        for seconds, [mrr] in runs:
            took = sum(seconds)
            as_good = [(at, epoch) for course in sterna for epoch, (at, found) in enumerate(course, 1) if found >= mrr]
            if as_good:
                at, epoch = min(as_good)
                said = f"{at:8.1f} s, {epoch:2} epochs {took / at:6.1f}x"
            else:
                said = f"never: MRR {max(found for course in sterna for _, found in course):.3f}"
            print(f"{name:10} {len(seconds):6} {mrr:6.3f} {took:8.1f} s {said}")


def compare(arguments, python):
    with open(pathlib.Path(arguments.data) / "train.txt", encoding="utf-8") as file:
        triples = sum(1 for _ in file)
    # Queries of a triple.
    sides = {"sterna": 2, "biggraph": 2, "pykeen": 1}
    seconds = {name: [] for name in ["sterna", *arguments.peers.split(",")]}
    courses, peers = [], {name: [] for name in arguments.peers.split(",")}
    for _ in range(arguments.rounds):
        for name, found in seconds.items():
            new, quality = run_sterna(arguments) if name == "sterna" else run_peer(arguments, python, name)
            print(f"{name}: " + ", ".join(f"{one:.2f} s" for one in new), file=sys.stderr)
            if name == "sterna":
                courses.append(quality)
                found += new
            else:
                peers[name].append((new, quality))
                found += new[1:]
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
    if arguments.quality:
        tell_quality(courses, peers)


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
    parser.add_argument("--quality", action="store_true", help="also rank, and compare the time to the same quality")
    parser.add_argument("--sterna-epochs", type=int, default=20, help="of Sterna with --quality, whose rate falls to 0 in them (default 20)")
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
