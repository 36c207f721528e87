#!/usr/bin/env python3
"""Cells per second of `sterna train mf` on the matrix that the papers on parameter managers measure on, scaled down.

    python3 bench/mf.py
    python3 bench/mf.py --jobs 1x1 1x2 2x1

Generates 100,000 x 10,000 with 3 million cells (Zipf 1.1, rank 32) and trains rank 32 by Adagrad (rate 0.1, lambda 0.05), columnwise and in
blocks, in jobs of NODESxWORKERS. AdaPM on such data, the same model with double precision, columnwise: 1.25 to 1.3 M
cells a second on one thread, 2.1 to 2.2 s an epoch on two nodes of one thread each, both on one host of another make.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile


def run(command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def trained(arguments, matrix, folder, schedule, nodes, workers):
    report = folder / "report.json"
    command = [arguments.sterna, "train", "mf", "--train", matrix, "--hold-out", "0.01", "--rank", "32"]
    command += ["--biases", "false", "--optimizer", "adagrad", "--learning-rate", "0.1", "--reg", "0.05"]
    command += ["--init-std", "0.42", "--epochs", str(arguments.epochs), "--valid-every", "0"]
    command += ["--schedule", schedule, "--nodes", nodes, "--workers", workers, "--report", report]
    run(command)
    return json.load(open(report))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", nargs="+", default=["1x1", "1x2"], metavar="NODESxWORKERS")
    parser.add_argument("--cells", type=int, default=3_000_000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sterna", default="target/release/sterna")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        matrix = folder / "matrix.mtx"
        run([arguments.sterna, "generate", "matrix", "--cells", str(arguments.cells), "--out", matrix])
        print(f"{arguments.cells} cells, medians of {arguments.rounds} rounds, epochs after the first")
        print(f"{'schedule':12} {'job':>5} {'s an epoch':>11} {'M cells/s':>10} {'test RMSE':>10}")
        for schedule in ("columnwise", "block"):
            for job in arguments.jobs:
                nodes, workers = job.split("x")
                found = [
                    trained(arguments, matrix, folder, schedule, nodes, workers) for _ in range(arguments.rounds)
                ]
                seconds = statistics.median(statistics.median(run["epoch_seconds"][1:]) for run in found)
                rmse = statistics.median(run["quality"]["rmse"] for run in found)
                cells = 0.99 * arguments.cells / seconds / 1e6
                print(f"{schedule:12} {job:>5} {seconds:11.3f} {cells:10.2f} {rmse:10.4f}")


if __name__ == "__main__":
    main()
