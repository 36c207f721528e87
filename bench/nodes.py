#!/usr/bin/env python3
"""Every task on several nodes of this host beside one node with as many workers: seconds of an epoch, by turns in one run.

    python3 bench/nodes.py
    python3 bench/nodes.py --jobs 1x4 4x1 --gnn DIR --mnist DIR --policy classic --tasks kge mf

A job is NODESxWORKERS. Efficiency is the time of the job with one node and as many workers in all, divided by this job's. Data are
generated, but for kge (WN18RR, which is part of the program), and for gnn and mlr, which are left out without a folder. Seconds are the
median of all rounds and all epochs but each run's first, in which rows find their places; beside them are the share of keys that were at the node when they
were used, and the quality after these few epochs, which says whether the jobs did the same.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile


def generated(arguments, folder, kind, name, *options):
    """A generated file, made when it is first asked for."""
    path = folder / name
    if not path.exists():
        command = [arguments.sterna, "generate", kind, *options, "--out", path]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return str(path)


def tasks(arguments, folder):
    """Of each task how it is trained, and after how many epochs it ends."""
    make = lambda *what: generated(arguments, folder, *what)
    of_folder = lambda given, *options: given and [*options, "--data", given]
    return {
        "kge": (lambda: [], 4),
        "mf": (
            lambda: ["--train", make("matrix", "matrix.mtx", "--cells", "3000000"), "--hold-out", "0.01", "--rank", "32", "--biases", "false"]
            + ["--optimizer", "adagrad", "--learning-rate", "0.1", "--reg", "0.05", "--init-std", "0.42"],
            6,
        ),
        "words": (lambda: [make("text", "text.txt", "--sentences", "200000"), "--read-threads", "1"], 3),
        "walks": (
            lambda: [make("graph", "edges.tsv", "--nodes", "20000", "--edges", "200000"), "--walks", "10"]
            + ["--labels", make("graph", "labels.tsv", "--nodes", "20000", "--edges", "200000", "--labels")],
            3,
        ),
        "ctr": (lambda: ["--data", make("clicks", "clicks.tsv", "--examples", "300000"), "--hash-buckets", "1000000"], 3),
        "gnn": (lambda: of_folder(arguments.gnn, "--batch", "512", "--fanout", "10,10"), 6),
        "mlr": (lambda: of_folder(arguments.mnist), 4),
    }


def trained(arguments, task, options, epochs, job):
    nodes, workers = job.split("x")
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = [arguments.sterna, "train", task, *options, "--epochs", str(epochs), "--valid-every", "0", "--patience", "0"]
        command += ["--nodes", nodes, "--workers", workers, "--report", report.name]
        if int(nodes) > 1:
            command += ["--policy", arguments.policy, "--fabric", arguments.fabric]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
        return json.load(open(report.name))


def local_share(report):
    counts = {path: found["count"] for path, found in report["paths"].items() if path in ("local", "replica", "remote")}
    return 100 * (1 - counts["remote"] / sum(counts.values()))


def compare(arguments, task, options, epochs):
    runs = {job: [] for job in arguments.jobs}
    for _ in range(arguments.rounds):
        for job, found in runs.items():
            found.append(trained(arguments, task, options, epochs, job))
    seconds = {
        job: statistics.median(one for run in found for one in run["epoch_seconds"][1:]) for job, found in runs.items()
    }
    workers = lambda job: int(job.split("x")[0]) * int(job.split("x")[1])
    for job, found in runs.items():
        alone = seconds.get(f"1x{workers(job)}")
        efficiency = f"{alone / seconds[job]:10.2f}" if alone and not job.startswith("1x") else " " * 10
        goal = found[0]["goal"]
        qualities = [run["quality"][goal] for run in found if goal in run["quality"]]
        quality = f"{goal} {statistics.median(qualities):.4f}" if qualities else f"loss {found[0]['loss'][-1]:.4f}"
        local = statistics.median(local_share(run) for run in found)
        print(f"{task:6} {job:>5} {seconds[job]:11.3f} {efficiency} {local:8.2f} %  {quality}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", nargs="+", default=["1x2", "2x1", "1x4", "2x2", "4x1"], metavar="NODESxWORKERS")
    parser.add_argument("--tasks", nargs="+", default=[], metavar="TASK", help="only these")
    parser.add_argument("--rounds", type=int, default=2, help="by turns (default 2)")
    parser.add_argument("--policy", default="adaptive", help="of jobs with several nodes (default adaptive)")
    parser.add_argument("--fabric", default="shm", help="of jobs with several nodes (default shm)")
    parser.add_argument("--gnn", metavar="DIR", help="a data folder of `sterna train gnn`")
    parser.add_argument("--mnist", metavar="DIR", help="the four files of MNIST")
    parser.add_argument("--sterna", default="target/release/sterna", help="the binary")
    arguments = parser.parse_args()
    print(f"policy {arguments.policy}, {arguments.fabric}, {arguments.rounds} rounds")
    print(f"{'task':6} {'job':>5} {'s an epoch':>11} {'efficiency':>10} {'local':>10}  quality")
    with tempfile.TemporaryDirectory() as name:
        for task, (options, epochs) in tasks(arguments, pathlib.Path(name)).items():
            if arguments.tasks and task not in arguments.tasks:
                continue
            options = options()
            if options is None:
                print(f"{task}: left out, as no folder of data was given", file=sys.stderr)
                continue
            compare(arguments, task, options, epochs)


if __name__ == "__main__":
    main()
