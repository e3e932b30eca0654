"""Fills the disk of a real server and worker to the brim, at random moments of upload, checkpoint and publish, and makes room again.

    deploy/trial.sh full-disk [--moments 20] [--seed 5]

The server's data folder, with its uploads and its blobs, lies on a small tmpfs; PostgreSQL, the installed one, lies elsewhere. At each
moment the disk is filled but for a few pages, some workers are killed meanwhile, and then there is room again. Every push that was
acknowledged and every job that succeeded must have its whole bytes in the store, every job must succeed in the end, and its artifact must
be that of a run that nothing disturbed, bit for bit. Needs root, for the tmpfs; it is mounted in a namespace of its own.
"""

import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import types

from trial import ROOT, digits, free_port, postgres, until

MARK = "DYADIC_FULL_DISK_NAMESPACE"
DISK = 96 << 20
PAGE = 4096
KINDS = ("upload", "checkpoint", "publish")
SPEC = ["--mean", "0.1307", "--std", "0.3081", "--batch-size", "20", "--threads", "1", "--precision", "f32", "--experiment", "full-disk"]


class Bench:
    def __init__(self, folder, programs, epochs):
        self.folder, self.programs, self.epochs = folder, programs, epochs
        self.disk, self.data = folder / "disk", folder / "disk/data"
        self.blobs, self.database, self.port = self.data / "blobs", free_port(), free_port()
        self.workers = 0
        self.worker = None

    def environment(self):
        return {
            "PATH": os.defpath,
            "HOME": str(self.folder),
            "LD_LIBRARY_PATH": os.environ["LD_LIBRARY_PATH"],
            "DATABASE_URL": f"postgres://dyadic@127.0.0.1:{self.database}/dyadic",
            "PGPASSWORD": (self.folder / "secrets/postgres_password").read_text(),
            "DYADIC_DATA_DIR": str(self.data),
            "DYADIC_LISTEN": f"127.0.0.1:{self.port}",
            "DYADIC_SERVER": f"http://127.0.0.1:{self.port}",
            "DYADIC_BLOBS": f"file://{self.blobs}",
            "DYADIC_WORKER_CACHE": str(self.folder / "cache"),
            "DYADIC_LEASE_SECS": "4",
            "DYADIC_CHECKPOINT_SECS": "1",
            "DYADIC_POLL_SECS": "1",
        }

    def start(self, program, *words):
        with open(self.folder / f"{program}.log", "ab") as log:
            command = [self.programs / program, *words]
            return subprocess.Popen(command, env=self.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")

    def hire(self):
        self.workers += 1
        self.worker = self.start("dyadic-worker", "run", "--name", f"worker-{self.workers}")

    def call(self, *words):
        command = [self.programs / "dyadic", *map(str, words), "--json"]
        return subprocess.run(command, env=self.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True)

    def ask(self, *words):
        done = self.call(*words)
        if done.returncode:
            sys.exit(f"dyadic {' '.join(map(str, words))}\n{done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    def job(self, job):
        return self.ask("job", "show", job)

    @contextlib.contextmanager
    def full(self, room):
        """A disk with this much room, to the page."""
        filler = self.disk / "filler"
        written = 0
        with open(filler, "wb", buffering=0) as file:
            for block in (64 * PAGE, PAGE):
                with contextlib.suppress(OSError):
                    while wrote := file.write(bytes(block)):
                        written += wrote
            file.truncate(max(0, written - room // PAGE * PAGE))
        try:
            yield
        finally:
            filler.unlink()

    def stored(self):
        """Digest by name of everything in the blob store."""
        files = [path for path in self.blobs.glob("??/*") if path.is_file()]
        return {path.parent.name + path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def is_whole(self, sha256):
        path = self.blobs / sha256[:2] / sha256[2:]
        return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def made(job):
    """The artifact's digest, if there is one."""
    return (job.get("artifact") or {}).get("sha256")


class Trial:
    def __init__(self, bench, source):
        self.bench, self.source = bench, source
        self.pushes = self.refused = self.successes = self.kills = 0
        self.faults = []

    def check(self, what, sha256):
        """A success, which must have its bytes."""
        self.successes += 1
        if not sha256 or not self.bench.is_whole(sha256):
            self.faults.append(f"{what}: a success without its whole bytes, {sha256}")

    def upload(self, number):
        """A data set of its own, pushed while the disk fills up, and again with room."""
        bench, folder = self.bench, self.bench.folder / f"upload-{number}"
        folder.mkdir()
        for path in (bench.folder / "digits").iterdir():
            shutil.copy(path, folder)
        images = folder / "train-images-idx3-ubyte"
        images.write_bytes(images.read_bytes()[:16] + self.source.randbytes(images.stat().st_size - 16))
        with bench.full(self.source.randrange(2 * images.stat().st_size)):
            done = bench.call("dataset", "push", folder, "--name", f"upload-{number}")
            if done.returncode == 0:
                self.check(f"upload {number}", json.loads(done.stdout)["dataset"]["tar"]["sha256"])
            elif "space" in done.stdout + done.stderr:
                self.refused += 1
            else:
                self.faults.append(f"upload {number}: refused with {done.stdout}{done.stderr}")
        again = bench.ask("dataset", "push", folder, "--name", f"upload-{number}")
        self.check(f"upload {number} with room again", again["dataset"]["tar"]["sha256"])

    def submit(self):
        job = self.bench.ask("job", "submit", "--model", "lenet", "--dataset", "digits", "--method", "aptq", "--epochs", self.bench.epochs, *SPEC)
        return job["job"]["id"]

    def until(self, job, what, so):
        """The job once it is so, or has ended."""
        for _ in range(6000):
            seen = self.bench.job(job)
            if so(seen) or seen["state"] in ("succeeded", "failed", "cancelled"):
                return seen
            time.sleep(0.05)
        sys.exit(f"{what} never came: {seen}")

    def run(self, number, kind, expected, inputs):
        bench = self.bench
        # What earlier runs left would be found, and not be written.
        for name in bench.stored():
            if name not in inputs:
                (bench.blobs / name[:2] / name[2:]).unlink()
        job = self.submit()
        share = 0.9 if kind == "publish" else self.source.uniform(0.1, 0.7)
        self.until(job, f"{share:.0%} of the training", lambda seen: far(seen, share))
        time.sleep(self.source.uniform(0, 0.5))
        kill = kind == "checkpoint" and self.source.random() < 0.5
        with bench.full(self.source.randrange(4) * PAGE):
            time.sleep(self.source.uniform(1.5, 4))
            if kill:
                self.kills += 1
                bench.worker.send_signal(signal.SIGKILL)
                bench.worker.wait()
                bench.hire()
            seen = bench.job(job)
            if seen["state"] == "succeeded":
                self.check(f"{kind} {number}, on the full disk", made(seen))
        seen = self.until(job, "the end", lambda seen: False)
        if seen["state"] != "succeeded":
            self.faults.append(f"{kind} {number}: the job is {seen['state']}: {seen.get('error')}")
            return
        self.check(f"{kind} {number}", made(seen))
        if made(seen) != expected:
            self.faults.append(f"{kind} {number}: the artifact is {made(seen)}, undisturbed it is {expected}")


def far(job, share):
    progress = job.get("progress") or {}
    late = ("evaluate", "export")
    return progress.get("phase") in late or progress.get("phase") == "train" and progress["done"] >= share * progress["total"]


def trial(bench, given):
    source = random.Random(given.seed)
    server = bench.start("dyadic-server", "--insecure")
    try:
        until("the server answers", 60, lambda: bench.call("serve-stats").returncode == 0, [server])
        bench.ask("model", "push", ROOT / "graph/tests/fixtures/lenet_relu_dynamo20.onnx", "--name", "lenet")
        bench.ask("dataset", "push", digits(bench.folder / "digits"), "--name", "digits")
        inputs = set(bench.stored())
        bench.hire()
        it = Trial(bench, source)
        first = it.until(it.submit(), "the undisturbed end", lambda seen: False)
        if first["state"] != "succeeded":
            sys.exit(f"the undisturbed job is {first['state']}: {first.get('error')}")
        kinds = [KINDS[number % len(KINDS)] for number in range(given.moments)]
        source.shuffle(kinds)
        for number, kind in enumerate(kinds):
            if kind == "upload":
                it.upload(number)
                inputs |= set(bench.stored())
            else:
                it.run(number, kind, made(first), inputs)
            print(f"full disk: moment {number + 1} of {given.moments}, {kind}: {len(it.faults)} faults so far", flush=True)
    finally:
        for process in (bench.worker, server):
            if process and process.poll() is None:
                process.kill()
                process.wait()
    counts = {kind: kinds.count(kind) for kind in KINDS}
    print(f"full disk: {counts}, {it.refused} pushes refused, {it.kills} workers killed; {it.successes} successes, {len(it.faults)} faults")
    print("\n".join(it.faults))
    return it.faults


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--programs", default=ROOT / "target/debug", type=pathlib.Path, help="where the built programs are")
    arguments.add_argument("--moments", default=20, type=int)
    arguments.add_argument("--seed", default=5, type=int)
    arguments.add_argument("--epochs", default=60, type=int, help="length of a job")
    given = arguments.parse_args()
    if os.geteuid() != 0:
        sys.exit("a tmpfs is mounted for this: run it as root")
    if MARK not in os.environ:
        os.environ[MARK] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", "--", sys.executable, *sys.argv])
    with tempfile.TemporaryDirectory(prefix="dyadic-full-disk.") as name, contextlib.ExitStack() as stack:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        shutil.copy(ROOT / "deploy/make-secrets.sh", folder)
        subprocess.run([folder / "make-secrets.sh"], check=True)
        (folder / "secrets").chmod(0o755)
        bench = Bench(folder, given.programs.resolve(), given.epochs)
        bench.disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=0755", "tmpfs", bench.disk], check=True)
        stack.callback(subprocess.run, ["umount", "--lazy", bench.disk], check=True)
        stack.enter_context(postgres(types.SimpleNamespace(folder=folder, database=bench.database)))
        faults = trial(bench, given)
        if faults:
            for log in sorted(folder.glob("*.log")):
                print(f"--- end of {log.name}\n{log.read_text(errors='replace')[-3000:]}", file=sys.stderr)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
