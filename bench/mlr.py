#!/usr/bin/env python3
"""`sterna train mlr` beside scikit-learn: seconds, accuracy and log loss on the same examples, by turns in one run.

    python3 bench/mlr.py --data mnist

Reads a folder with MNIST's four IDX files. Peers are `LogisticRegression` (L-BFGS, until it has converged or after 100
iterations, its defaults) and `SGDClassifier(loss="log_loss")` with as many epochs as Sterna; the latter trains one
classifier for each class. All get pixels / 255, scikit-learn as sparse rows, which is the faster form for it here. Times are
those of training alone, on --threads threads. The peer lives in a virtual environment of its own
(--venv, made by pip when it is not there).
"""

import argparse
import gzip
import json
import os
import pathlib
import statistics
import struct
import subprocess
import sys
import tempfile


def idx(folder, name):
    import numpy

    for path, opened in ((folder / name, open), (folder / f"{name}.gz", gzip.open)):
        if path.exists():
            with opened(path, "rb") as file:
                magic = struct.unpack(">HBB", file.read(4))
                sizes = struct.unpack(f">{magic[2]}I", file.read(4 * magic[2]))
                return numpy.frombuffer(file.read(), numpy.uint8).reshape(sizes[0], -1)
    sys.exit(f"{folder} has no {name}")


def peer(arguments):
    """Trains by scikit-learn; prints a line of JSON."""
    import time
    import warnings

    import numpy
    from scipy.sparse import csr_matrix
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, SGDClassifier
    from sklearn.metrics import log_loss

    warnings.simplefilter("ignore", ConvergenceWarning)
    folder = pathlib.Path(arguments.data)
    pixels = [csr_matrix(idx(folder, f"{part}-images-idx3-ubyte").astype(numpy.float32) / 255.0) for part in ("train", "t10k")]
    classes = [idx(folder, f"{part}-labels-idx1-ubyte").ravel() for part in ("train", "t10k")]
    if arguments.peer == "lbfgs":
        model = LogisticRegression(max_iter=100)
    else:
        model = SGDClassifier(
            loss="log_loss", max_iter=arguments.epochs, tol=None, n_jobs=arguments.threads, random_state=arguments.seed
        )
    begun = time.perf_counter()
    model.fit(pixels[0], classes[0])
    seconds = time.perf_counter() - begun
    figures = {
        "seconds": seconds,
        "accuracy": model.score(pixels[1], classes[1]),
        "log_loss": log_loss(classes[1], model.predict_proba(pixels[1])),
        "epochs": int(numpy.max(model.n_iter_)),
    }
    print(json.dumps(figures))


def run_peer(arguments, python, kind):
    command = [python, __file__, "--peer", kind, "--data", arguments.data, "--epochs", str(arguments.epochs)]
    command += ["--threads", str(arguments.threads), "--seed", str(arguments.seed)]
    threads = {name: str(arguments.threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, env={**os.environ, **threads})
    return json.loads(output.stdout)


def run_sterna(arguments):
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = [arguments.sterna, "train", "mlr", "--data", arguments.data, "--epochs", str(arguments.epochs)]
        command += ["--workers", str(arguments.threads), "--seed", str(arguments.seed), "--report", report.name]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        found = json.load(open(report.name))
    return {"seconds": found["train_seconds"], "epochs": found["epochs"], **found["quality"]}


def python_of(arguments):
    folder = pathlib.Path(arguments.venv)
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "scikit-learn"], check=True)
    return str(python)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with MNIST's IDX files")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sterna", default="target/release/sterna")
    parser.add_argument("--venv", default="target/peers/scikit-learn")
    parser.add_argument("--peer", choices=("lbfgs", "sgd"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        return peer(arguments)
    python = python_of(arguments)
    runs = {"Sterna": [], "lbfgs": [], "sgd": []}
    for _ in range(arguments.rounds):
        runs["Sterna"].append(run_sterna(arguments))
        for kind in ("sgd", "lbfgs"):
            runs[kind].append(run_peer(arguments, python, kind))
    print(f"{arguments.threads} thread(s), medians of {arguments.rounds} rounds")
    print(f"{'':22} {'epochs':>7} {'seconds':>8} {'accuracy':>9} {'log loss':>9} {'times Sterna':>13}")
    names = {"Sterna": "sterna train mlr", "sgd": "SGDClassifier", "lbfgs": "LogisticRegression"}
    mine = statistics.median(run["seconds"] for run in runs["Sterna"])
    for kind, found in runs.items():
        middle = {name: statistics.median(run[name] for run in found) for name in found[0]}
        print(
            f"{names[kind]:22} {middle['epochs']:7.0f} {middle['seconds']:8.2f} {middle['accuracy']:9.4f} "
            f"{middle['log_loss']:9.4f} {middle['seconds'] / mine:13.1f}"
        )


if __name__ == "__main__":
    main()
