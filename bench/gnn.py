#!/usr/bin/env python3
"""`sterna train gnn` beside PyTorch Geometric: seconds of an epoch, and accuracy, by turns in one run.

    python3 bench/gnn.py --data cora --data facebook-pages --data github-social

Both sides read the same folder, split it alike and train the same network with the same settings: full batch, two
layers of 64, Adam. The peer lives in a virtual environment of its own (--venv, made by pip when it is not there).
It trains with each form of the graph that it has (a list of edges, a CSR matrix), and the fastest counts;
its first three epochs are left out, Sterna's are not. CPU time is given beside wall time: on a busy machine it says
more. Accuracy is the test's at the epoch of the best validation.
"""

import argparse
import csv
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

# dropout, weight decay, epochs, and floats of learned embeddings: the defaults of `sterna train gnn`.
RECIPES = {
    ("features", "few"): (0.5, 5e-4, 200, 0),
    ("features", "many"): (0.3, 0.0, 150, 0),
    ("embeddings", "few"): (0.5, 5e-4, 30, 64),
    ("embeddings", "many"): (0.5, 1e-4, 40, 64),
}
HIDDEN, LEARNING_RATE = 64, 0.01


def splitmix64(x):
    mask = (1 << 64) - 1
    z = (x + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) & mask
    return z ^ z >> 31


def drawn_split(classes, rule):
    seed = splitmix64(1)
    order = sorted(range(len(classes)), key=lambda node: splitmix64(seed ^ node))
    if rule == "many":
        train, valid = len(order) * 75 // 100, len(order) * 80 // 100
        return order[:train], order[train:valid], order[valid:]
    lists, seen = ([], [], []), {}
    for node in order:
        count = seen[classes[node]] = seen.get(classes[node], 0) + 1
        lists[0 if count <= 20 else 1 if count <= 50 else 2].append(node)
    return lists


def read(folder, rule):
    """Classes, edges, feature lists (or None) and the split of a folder, as `sterna train gnn` takes them."""
    target = folder / "target.csv"
    if target.exists():
        with open(target, encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))[1:]
        assert [int(row[0]) for row in rows] == list(range(len(rows))), "nodes in order"
        names = sorted({row[-1] for row in rows})
        classes = [names.index(row[-1]) for row in rows]
        with open(folder / "edges.csv", encoding="utf-8") as file:
            edges = [tuple(map(int, line.split(","))) for line in list(file)[1:]]
        features = None
        if (folder / "features.json").exists():
            lists = json.load(open(folder / "features.json", encoding="utf-8"))
            features = [sorted(set(lists.get(str(node), []))) for node in range(len(rows))]
        return classes, edges, features, drawn_split(classes, rule)
    lines = (folder / "nodes.svmlight").read_text().splitlines()
    classes = [int(line.split()[0]) for line in lines]
    features = [[int(pair.split(":")[0]) for pair in line.split()[1:]] for line in lines]
    edges = [tuple(map(int, line.split())) for line in (folder / "edges.tsv").read_text().splitlines()]
    given = (folder / "split.txt").read_text().split()
    splits = [[n for n, name in enumerate(given) if name == s] for s in ("train", "valid", "test")]
    return classes, edges, features, splits


def rules_of(folder, asked):
    return ["given"] if (folder / "split.txt").exists() else asked or ["few", "many"]


def recipe(folder, rule):
    has_features = not (folder / "target.csv").exists() or (folder / "features.json").exists()
    return RECIPES["features" if has_features else "embeddings", "few" if rule == "given" else rule]


def peer(arguments):
    """Trains by PyTorch Geometric; prints a line of JSON."""
    import time

    import torch
    import torch.nn.functional as F
    from torch_geometric.nn import GCNConv, SAGEConv
    from torch_geometric.utils import coalesce, remove_self_loops, to_torch_csr_tensor, to_undirected

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    folder = pathlib.Path(arguments.data[0])
    classes, edges, features, splits = read(folder, arguments.rule)
    dropout, weight_decay, epochs, embedding = recipe(folder, arguments.rule)
    y, nodes = torch.tensor(classes), len(classes)
    train, valid, test = (torch.tensor(split) for split in splits)
    graph = to_undirected(remove_self_loops(torch.tensor(edges).t())[0], num_nodes=nodes)
    graph = coalesce(graph, num_nodes=nodes)
    if arguments.form == "csr":
        graph = to_torch_csr_tensor(graph, size=(nodes, nodes))
    if embedding:
        x = torch.nn.Parameter(torch.randn(nodes, embedding) * 0.1)
    else:
        x = torch.zeros(nodes, 1 + max(max(row, default=0) for row in features))
        for node, row in enumerate(features):
            x[node, row] = 1.0 / max(len(row), 1)
    width, count = x.shape[1], len(set(classes))
    if arguments.model == "gcn":
        layers = [GCNConv(width, HIDDEN, cached=True), GCNConv(HIDDEN, count, cached=True)]
    else:
        layers = [SAGEConv(width, HIDDEN), SAGEConv(HIDDEN, count)]
    first, second = (list(layer.parameters()) for layer in layers)
    second_decay = weight_decay if arguments.model == "sage" else 0.0
    groups = [
        {"params": first + ([x] if embedding else []), "weight_decay": weight_decay},
        {"params": second, "weight_decay": second_decay},
    ]
    optimizer = torch.optim.Adam(groups, lr=LEARNING_RATE)

    def scores(training):
        h = F.dropout(x, dropout, training)
        h = F.relu(layers[0](h, graph))
        return layers[1](F.dropout(h, dropout, training), graph)

    def epoch():
        optimizer.zero_grad()
        F.cross_entropy(scores(True)[train], y[train]).backward()
        optimizer.step()

    if arguments.speed:
        for _ in range(3):
            epoch()
        start, cpu, done = time.perf_counter(), time.process_time(), 0
        while done < 5 or (done < arguments.speed and time.perf_counter() - start < 8):
            epoch()
            done += 1
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        print(json.dumps({"wall": wall / done, "cpu": cpu / done}))
        return
    best, accuracy = -1.0, 0.0
    for _ in range(epochs):
        epoch()
        with torch.no_grad():
            found = scores(False).argmax(1) == y
        if found[valid].float().mean().item() > best:
            best = found[valid].float().mean().item()
            accuracy = found[test].float().mean().item()
    print(json.dumps({"accuracy": accuracy}))


def run_peer(arguments, python, folder, **settings):
    command = [python, __file__, "--peer", "--data", folder, "--threads", str(arguments.threads)]
    for name, value in settings.items():
        command += [f"--{name}", str(value)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return json.loads(output.stdout)


def run_sterna(arguments, folder, rule, model, seed, *options):
    """The report of a training, and the CPU seconds of its process."""
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = [arguments.sterna, "train", "gnn", "--data", folder, "--split", rule]
        command += ["--model", model, "--workers", str(arguments.threads), "--seed", str(seed)]
        command += [*options, "--report", report.name]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0, f"{' '.join(command)} failed"
        return json.load(open(report.name)), usage.ru_utime + usage.ru_stime


def speed_of_sterna(arguments, folder, rule, model):
    """Wall and CPU seconds of an epoch, the latter as what 30 more epochs add to 10."""
    _, few = run_sterna(arguments, folder, rule, model, 1, "--epochs", "10", "--valid-every", "0")
    report, many = run_sterna(arguments, folder, rule, model, 1, "--epochs", "40", "--valid-every", "0")
    return report["train_seconds"] / report["epochs"], (many - few) / 30


def compare_speed(arguments, python, folder, rule, model):
    """A line of the table, and the peer's better form of the graph."""
    ours, theirs = [], {"edges": [], "csr": []}
    for _ in range(arguments.rounds):
        ours.append(speed_of_sterna(arguments, folder, rule, model))
        for form, found in theirs.items():
            run = run_peer(arguments, python, folder, rule=rule, model=model, form=form, speed=30)
            found.append((run["wall"], run["cpu"]))
    middle = lambda found: [1e3 * statistics.median(column) for column in zip(*found)]
    wall, cpu = middle(ours)
    peers = {form: middle(found) for form, found in theirs.items()}
    form = min(peers, key=lambda form: peers[form][1])
    line = f"{pathlib.Path(folder).name + ', ' + rule:22} {model:5} {wall:10.1f} {peers[form][0]:8.1f} "
    line += f"{peers[form][0] / wall:6.1f} {cpu:10.1f} {peers[form][1]:8.1f} {peers[form][1] / cpu:6.1f} {form:>6}"
    return line, form


def compare_accuracy(arguments, python, folder, rule, model, form):
    """Mean and spread of both sides."""
    text = ""
    seeds = range(1, arguments.seeds + 1)
    ours = [run_sterna(arguments, folder, rule, model, seed)[0] for seed in seeds]
    theirs = [
        run_peer(arguments, python, folder, rule=rule, model=model, form=form, seed=seed)
        for seed in seeds
    ]
    for figures in ([run["quality"]["accuracy"] for run in ours], [run["accuracy"] for run in theirs]):
        text += f" {statistics.mean(figures):10.4f} +- {statistics.pstdev(figures):.4f}"
    return text


def compare(arguments, python):
    print(f"{arguments.threads} thread(s), medians of {arguments.rounds} rounds, ms of an epoch")
    header = f"{'data, split':22} {'model':5} {'Sterna':>10} {'PyG':>8} {'ratio':>6} "
    header += f"{'Sterna CPU':>10} {'PyG CPU':>8} {'ratio':>6} {'form':>6}"
    print(header + (f" {'Sterna accuracy':>20} {'PyG accuracy':>20}" if arguments.seeds else ""))
    for folder in arguments.data:
        for rule in rules_of(pathlib.Path(folder), arguments.split):
            for model in ("gcn", "sage"):
                line, form = compare_speed(arguments, python, folder, rule, model)
                if arguments.seeds:
                    line += compare_accuracy(arguments, python, folder, rule, model, form)
                print(line, flush=True)


def environment(folder):
    python = pathlib.Path(folder) / "bin" / "python"
    if not python.exists():
        print(f"installing torch and torch_geometric into {folder} ..", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "torch", "torch_geometric"], check=True)
    return str(python)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", required=True, metavar="DIR", help="a data folder; may be given again")
    parser.add_argument("--split", action="append", choices=("few", "many"), help="of data without one (default both)")
    parser.add_argument("--threads", type=int, default=1, help="of both sides (default 1)")
    parser.add_argument("--rounds", type=int, default=3, help="of speed, by turns (default 3)")
    parser.add_argument("--seeds", type=int, default=0, help="trainings for accuracy (default 0)")
    parser.add_argument("--sterna", default="target/release/sterna", help="the binary")
    parser.add_argument("--venv", default="target/venv-gnn", help="the peer's virtual environment")
    for name, default in (("rule", "given"), ("model", "gcn"), ("form", "edges")):
        parser.add_argument(f"--{name}", default=default, help=argparse.SUPPRESS)
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--speed", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        peer(arguments)
    else:
        compare(arguments, environment(arguments.venv))


if __name__ == "__main__":
    main()
