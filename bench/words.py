#!/usr/bin/env python3
"""`sterna train words` beside gensim: words a second, and quality, by turns in one run.

    python3 bench/words.py --text text8                              skip-gram and CBOW, the first 20,000,000 bytes
    python3 bench/words.py --text text8 --bytes 0 --epochs 5 --rounds 1 --architecture skipgram --evaluate questions

Both sides read the same text with the same settings: 5 negatives, window 5, sample 1e-4, minimum count 5, the learning
rate of each side's defaults (0.025 to 0.0001; Sterna's CBOW from 0.15, as it shares gradients out among a window's words). The text is cut into lines of 1,000 words first, because gensim reads no more than 10,000 words of a line.
gensim trains in its fastest mode (corpus_file). Words are those of the text, before rare and frequent ones are dropped;
seconds are those of training alone, without reading the vocabulary. With --evaluate, the vectors of both sides
are asked by gensim, Sterna's being read from its vectors.bin; Sterna's own figures are printed beside them.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time


def prepare(arguments, folder):
    """The part of the text to train on, in lines of 1,000 words."""
    with open(arguments.text, "rb") as file:
        words = file.read(arguments.bytes if arguments.bytes else -1).split()
    path = pathlib.Path(folder) / "text.txt"
    with open(path, "wb") as file:
        for first in range(0, len(words), 1000):
            file.write(b" ".join(words[first : first + 1000]) + b"\n")
    return path, len(words)


def peer(arguments):
    from gensim.models import KeyedVectors, Word2Vec

    if arguments.vectors:
        vectors = KeyedVectors.load_word2vec_format(arguments.vectors, binary=True)
        print(json.dumps({"quality": quality(vectors, arguments.evaluate)}))
        return
    model = Word2Vec(
        vector_size=arguments.dim, window=5, min_count=5, sample=1e-4, negative=5, epochs=arguments.epochs,
        sg=int(arguments.architecture == ["skipgram"]), workers=arguments.threads, seed=arguments.seed,
    )
    model.build_vocab(corpus_file=arguments.text)
    start = time.perf_counter()
    model.train(
        corpus_file=arguments.text, total_words=model.corpus_total_words, total_examples=model.corpus_count,
        epochs=arguments.epochs,
    )
    found = {"seconds": time.perf_counter() - start}
    if arguments.evaluate:
        found["quality"] = quality(model.wv, arguments.evaluate)
    print(json.dumps(found))


def quality(vectors, folder):
    found = {}
    for file in sorted(pathlib.Path(folder).iterdir()):
        if file.name == "questions-words.txt":
            found["analogy_30k"] = vectors.evaluate_word_analogies(str(file), restrict_vocab=30000)[0]
            found["analogy"] = vectors.evaluate_word_analogies(str(file), restrict_vocab=300000)[0]
        else:
            found[file.stem] = float(vectors.evaluate_word_pairs(str(file))[1].statistic)
    return found


def run_peer(arguments, python, text, **settings):
    command = [python, __file__, "--peer", "--text", text, "--threads", arguments.threads, "--dim", arguments.dim]
    command += ["--epochs", arguments.epochs]
    for name, value in settings.items():
        command += [f"--{name}", value]
    if arguments.evaluate:
        command += ["--evaluate", arguments.evaluate]
    output = subprocess.run(map(str, command), check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return json.loads(output.stdout)


def run_sterna(arguments, text, architecture, seed, folder):
    report = pathlib.Path(folder) / "report.json"
    command = [arguments.sterna, "train", "words", text, "--architecture", architecture, "--dim", arguments.dim]
    command += ["--epochs", arguments.epochs, "--workers", arguments.threads, "--seed", seed, "--report", report]
    command += ["--export", folder]
    if arguments.evaluate:
        command += ["--evaluate", arguments.evaluate]
    command = list(map(str, command))
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return json.load(open(report))


def compare(arguments, python, folder):
    text, words = prepare(arguments, folder)
    words *= arguments.epochs
    print(f"{words:,} words in {arguments.epochs} epoch(s), dimension {arguments.dim}, {arguments.threads} thread(s), "
          f"{arguments.rounds} round(s)")
    for architecture in arguments.architecture:
        ours, theirs = [], []
        for seed in range(1, arguments.rounds + 1):
            mine = run_sterna(arguments, text, architecture, seed, folder)
            other = run_peer(arguments, python, text, architecture=architecture, seed=seed)
            ours.append(words / mine["train_seconds"])
            theirs.append(words / other["seconds"])
            print(f"{architecture:9} Sterna {ours[-1]:10,.0f} words/s   gensim {theirs[-1]:10,.0f} words/s   "
                  f"ratio {ours[-1] / theirs[-1]:.2f}", flush=True)
            if arguments.evaluate:
                vectors = pathlib.Path(folder) / "vectors.bin"
                asked = run_peer(arguments, python, text, vectors=vectors)["quality"]
                for name, figure in other["quality"].items():
                    print(f"          {name:12} Sterna {asked[name]:.4f} (by itself {mine['quality'][name]:.4f})   "
                          f"gensim {figure:.4f}", flush=True)
        mine, other = statistics.median(ours), statistics.median(theirs)
        print(f"{architecture:9} median {mine:10,.0f} and {other:,.0f} words/s, ratio {mine / other:.2f}", flush=True)


def environment(folder):
    python = pathlib.Path(folder) / "bin" / "python"
    if not python.exists():
        print(f"installing gensim into {folder} ..", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "gensim"], check=True)
    return str(python)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", required=True, metavar="FILE", help="words between white space, not packed")
    parser.add_argument("--bytes", type=int, default=20_000_000, help="of the text to train on, 0 for all (default 20000000)")
    parser.add_argument("--architecture", action="append", choices=("skipgram", "cbow"), help="(default both)")
    parser.add_argument("--dim", type=int, default=100, help="(default 100)")
    parser.add_argument("--epochs", type=int, default=1, help="(default 1)")
    parser.add_argument("--threads", type=int, default=1, help="of both sides (default 1)")
    parser.add_argument("--rounds", type=int, default=3, help="by turns, each with a seed of its own (default 3)")
    parser.add_argument("--evaluate", metavar="DIR", help="questions-words.txt and word pairs, as for `sterna train words`")
    parser.add_argument("--sterna", default="target/release/sterna", help="the binary")
    parser.add_argument("--venv", default="target/venv-gensim", help="the peer's virtual environment")
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--vectors", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        peer(arguments)
        return
    arguments.architecture = arguments.architecture or ["skipgram", "cbow"]
    with tempfile.TemporaryDirectory() as folder:
        compare(arguments, environment(arguments.venv), folder)


if __name__ == "__main__":
    main()
