#!/usr/bin/env python3
"""`sterna train ctr --model fm` beside xLearn: examples per second and AUC, by turns in one run.

    python3 bench/ctr.py --data frappe                 a folder of libFM files: train, validation, test in their names
    python3 bench/ctr.py --generate 500000             or so many clicks of `sterna generate clicks`

Both sides read the same libFM files and train a factorisation machine of the same dimension by Adagrad with the same number
of threads and epochs, without validation in between. Times are those that each tool reports for its epochs, so
reading and predicting do not count. xLearn steps after every example, without its instance norm, which spoils
its AUC; Sterna steps after every batch of 1024. The peer lives in a virtual environment of its own (--venv, made by pip
when it is not there; it builds from source, in about two minutes).
"""

import argparse
import json
import lzma
import gzip
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import zlib

SETS = {"train": "train", "valid": "valid", "dev": "valid", "test": "test"}


def peer(arguments):
    """Trains by xLearn, in its own environment; its epochs' times go to standard output."""
    import xlearn

    settings = json.loads(arguments[0])
    model = xlearn.create_fm()
    model.setTrain(settings["train"])
    model.disableNorm()
    model.disableEarlyStop()
    model.setSigmoid()
    model.fit(settings["recipe"], settings["model"])
    model.setTest(settings["test"])
    model.predict(settings["model"], settings["out"])


def auc(scores, labels):
    """The share of pairs in order, ties as half."""
    order = sorted(zip(scores, labels))
    below = pairs = clicked = at = 0
    while at < len(order):
        end = at
        while end < len(order) and order[end][0] == order[at][0]:
            end += 1
        high = sum(label for _, label in order[at:end])
        low = end - at - high
        pairs += high * (below + low / 2)
        below, clicked, at = below + low, clicked + high, end
    return pairs / (clicked * below)


def copy_plain(data, folder):
    """Plain copies of the sets of a folder, so that xLearn may leave its caches beside them."""
    for path in sorted(pathlib.Path(data).iterdir()):
        words = re.split("[^a-z0-9]+", path.name.lower())
        found = [name for word, name in SETS.items() if any(part.startswith(word) for part in words)]
        if not path.is_file() or not found or "bin" in words:
            continue
        opener = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
        with opener(path, "rb") as source, open(folder / f"{found[0]}.libfm", "wb") as target:
            shutil.copyfileobj(source, target)


def generate(sterna, count, folder):
    """Clicks of `sterna generate clicks` as libFM, features hashed to 2^18."""
    for name, first, examples in [("train", 0, count), ("valid", count, count // 10), ("test", 2 * count, count // 10)]:
        command = [sterna, "generate", "clicks", "--first", str(first), "--examples", str(examples)]
        clicks = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode()
        with open(folder / f"{name}.libfm", "w", encoding="ascii") as file:
            for line in clicks.splitlines():
                label, *cells = line.split("\t")
                features = (zlib.crc32(f"{field}:{cell}".encode()) % (1 << 18) for field, cell in enumerate(cells))
                file.write(f"{label} {' '.join(f'{feature}:1' for feature in features)}\n")


def run_xlearn(python, folder, args, _run):
    recipe = {"task": "binary", "opt": "adagrad", "lr": args.rate, "lambda": args.xlearn_l2, "k": args.dim,
              "epoch": args.epochs, "nthread": args.threads, "init": 0.3}
    out = folder / "predicted.txt"
    settings = {"train": str(folder / "train.libfm"), "test": str(folder / "test.libfm"), "recipe": recipe,
                "model": str(folder / "xlearn.model"), "out": str(out)}
    # It aborts where there is no USER.
    environment = {"USER": "bench", **os.environ}
    command = [python, str(pathlib.Path(__file__).resolve()), "--peer", json.dumps(settings)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment, cwd=folder)
    text = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout.decode(errors="replace"))
    rows = re.findall(r"\d+%\s*\]\s+\d+\s+[\d.]+\s+([\d.]+)\s*$", text, re.MULTILINE)
    assert len(rows) == args.epochs, text
    scores = [float(line) for line in out.read_text().split()]
    with open(folder / "test.libfm", encoding="ascii") as file:
        labels = [float(line.split(None, 1)[0]) > 0 for line in file]
    return sum(map(float, rows)) / args.epochs, auc(scores, labels)


def run_sterna(sterna, folder, args, run):
    report = folder / "report.json"
    command = [sterna, "train", "ctr", "--model", "fm", "--format", "libfm", "--workers", str(args.threads), "--dim", str(args.dim),
               "--train", str(folder / "train.libfm"), "--valid", str(folder / "valid.libfm"), "--test", str(folder / "test.libfm"),
               "--epochs", str(args.epochs), "--learning-rate", str(args.rate), "--l2", str(args.sterna_l2), "--init-std", "0.01", "--initial-accumulator", str(args.accumulator),
               "--valid-every", "0", "--patience", "0", "--keep-best", "false", "--seed", str(run), "--report", str(report)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found = json.loads(report.read_text())
    return sum(found["epoch_seconds"]) / args.epochs, found["quality"]["auc"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", help="folder of libFM files")
    source.add_argument("--generate", type=int, metavar="N", help="train on so many generated clicks")
    parser.add_argument("--sterna", default="target/release/sterna", help="the command (default: target/release/sterna)")
    parser.add_argument("--venv", default="target/bench-xlearn", help="virtual environment of the peer")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dim", type=int, default=16)
    parser.add_argument("--epochs", type=int, help="10; 2 for generated clicks")
    parser.add_argument("--runs", type=int, default=5, help="of each, by turns")
    parser.add_argument("--rate", type=float, help="Adagrad's learning rate, on both sides (0.1; 0.02 for generated clicks)")
    parser.add_argument("--xlearn-l2", type=float, help="for each example (1e-4; 1e-5 for generated clicks)")
    parser.add_argument("--sterna-l2", type=float, help="for each batch (0; 1e-4 for generated clicks)")
    args = parser.parse_args()
    defaults = {"epochs": 2, "rate": 0.02, "xlearn_l2": 1e-5, "sterna_l2": 1e-4, "accumulator": 1e-6} if args.generate \
        else {"epochs": 10, "rate": 0.1, "xlearn_l2": 1e-4, "sterna_l2": 0.0, "accumulator": 0.0}
    for name, value in defaults.items():
        if getattr(args, name, None) is None:
            setattr(args, name, value)
    sterna = str(pathlib.Path(args.sterna).resolve())
    python = pathlib.Path(args.venv).resolve() / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", args.venv], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "xlearn==0.40a1"], check=True)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        copy_plain(args.data, folder) if args.data else generate(sterna, args.generate, folder)
        with open(folder / "train.libfm", "rb") as file:
            examples = sum(1 for _ in file)
        print(f"{args.data or 'generated clicks'}: {examples} examples, FM of {args.dim}, {args.epochs} epochs, {args.threads} threads")
        sides = {"xlearn": (run_xlearn, str(python)), "sterna": (run_sterna, sterna)}
        found = {name: [] for name in sides}
        for run in range(1, args.runs + 1):
            for name, (train, command) in sides.items():
                seconds, area = train(command, folder, args, run)
                found[name].append((seconds, area))
                print(f"  run {run} {name}: {seconds:.3f} s an epoch, {examples / seconds / 1e6:.2f} M examples/s, test AUC {area:.4f}", flush=True)
    ratios = [theirs[0] / ours[0] for theirs, ours in zip(found["xlearn"], found["sterna"])]
    for name, runs in found.items():
        seconds = statistics.median(seconds for seconds, _ in runs)
        area = statistics.mean(area for _, area in runs)
        print(f"{name}: median {seconds:.3f} s an epoch, {examples / seconds / 1e6:.2f} M examples/s, mean AUC {area:.4f}")
    print(f"sterna is {statistics.median(ratios):.2f}x as fast as xlearn (median of turns; {min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    peer(sys.argv[2:]) if sys.argv[1:2] == ["--peer"] else main()
