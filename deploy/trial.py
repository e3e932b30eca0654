"""Runs docker-compose.yml's server and worker bare: same entry point, commands, settings, secrets and health check, no container engine.

    deploy/trial.sh [--garage PROGRAM | --s3 URL]

PostgreSQL is the installed one, on TCP with the password of the secret. The S3-compatible store is moto's server; with --garage it is
that program, started as the compose file's own store; with --s3 it is one that runs already, with a bucket named dyadic and the keys and
region of the usual AWS_... variables. Names of containers become addresses of this machine, and folders of containers become folders
below a temporary one; all else is taken from docker-compose.yml and the container files as it stands. A small job then goes the whole
way, every object of the store must be what its name says, and one that is damaged must be healed by pushing again.
"""

import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import pwd
import random
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

import boto3
import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what, seconds, so, alive=()):
    end = time.monotonic() + seconds
    while not so():
        for process in alive:
            if process.poll() is not None:
                sys.exit(f"{' '.join(process.args)} ended with {process.returncode} before {what}")
        if time.monotonic() > end:
            sys.exit(f"not within {seconds} s: {what}")
        time.sleep(0.2)


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


def stop(process, seconds):
    """Stops as `docker stop` does: SIGTERM, and no more than the grace period."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    return process.wait(seconds)


def image(path):
    """ENV, ENTRYPOINT, CMD and the health check of a container file's last stage."""
    lines = re.sub(r"\\\n", " ", (ROOT / path).read_text()).splitlines()
    last = max(i for i, line in enumerate(lines) if line.startswith("FROM "))
    found = {"ENV": {}}
    for line in lines[last:]:
        word, _, rest = line.partition(" ")
        if word == "ENV":
            found["ENV"] |= dict(pair.split("=", 1) for pair in shlex.split(rest))
        elif word in ("ENTRYPOINT", "CMD"):
            found[word] = json.loads(rest)
        elif word == "HEALTHCHECK":
            found[word] = json.loads(rest.partition("CMD")[2])
    return found


class Machine:
    """What the containers' names, folders and addresses are here."""

    def __init__(self, folder, programs, compose, given):
        self.folder, self.programs, self.compose = folder, programs, compose
        self.database, self.blobs, self.server = free_port(), free_port(), free_port()
        self.garage = given.garage and given.garage.resolve()
        self.endpoint = given.s3 or f"http://127.0.0.1:{self.blobs}"
        self.words = {
            "@database/": f"@127.0.0.1:{self.database}/",
            "http://blobs:3900": self.endpoint,
            "0.0.0.0:3900": f"127.0.0.1:{self.blobs}",
            "127.0.0.1:3901": f"127.0.0.1:{free_port()}",
            "0.0.0.0:8470": f"127.0.0.1:{self.server}",
            "/opt/libtorch/lib": f"{os.environ['LIBTORCH']}/lib",
        }

    def here(self, value, service):
        words = {"/run/secrets": f"{self.folder}/secrets", **self.words}
        words |= dict.fromkeys(("/var/lib/dyadic", "/var/lib/garage"), f"{self.folder}/{service}")
        for there, this in words.items():
            value = value.replace(there, this)
        return value

    def environment(self, service):
        """All that the program may see: of this machine's environment, nothing but PATH."""
        it = self.compose["services"][service]
        given = image(it["build"]["dockerfile"])["ENV"] | it["environment"]
        ours = {key: self.here(value, service) for key, value in given.items()}
        # The port is another one than in the container; the health check has to know.
        extra = {
            "server": {"DYADIC_SERVER": f"http://127.0.0.1:{self.server}"},
            "blobs": {"GARAGE_CONFIG_FILE": f"{self.folder}/garage.toml"},
        }.get(service, {})
        if "AWS_REGION" in ours and "AWS_REGION" in os.environ and self.endpoint.split(":")[-1] != str(self.blobs):
            extra["AWS_REGION"] = os.environ["AWS_REGION"]
        path = f"{self.programs}:{self.garage.parent}:{os.defpath}" if self.garage else f"{self.programs}:{os.defpath}"
        return {"PATH": path, "HOME": f"{self.folder}/{service}", **ours, **extra}

    def command(self, service):
        built = image(self.compose["services"][service]["build"]["dockerfile"])
        words = [str(ROOT / "deploy/entrypoint.sh") if word == "entrypoint" else word for word in built["ENTRYPOINT"]]
        return words + built["CMD"]

    def start(self, service):
        log = open(self.folder / f"{service}.log", "wb")
        (self.folder / service).mkdir()
        return subprocess.Popen(
            self.command(service), env=self.environment(service), cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )

    def healthy(self, service):
        check = image(self.compose["services"][service]["build"]["dockerfile"])["HEALTHCHECK"]
        return subprocess.run(check, env=self.environment(service), capture_output=True).returncode == 0

    def dyadic(self, *words):
        command = [f"{self.programs}/dyadic", *map(str, words), "--json"]
        done = subprocess.run(command, env=self.environment("server"), stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        return done.stdout


@contextlib.contextmanager
def postgres(machine):
    """A cluster that asks for the secret's password; as root it runs as another user."""
    versions = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parts[-2]))
    programs = versions[-1] if versions else pathlib.Path(shutil.which("postgres") or sys.exit("no PostgreSQL here")).resolve().parent
    data, password = machine.folder / "database", machine.folder / "secrets/postgres_password"
    data.mkdir(mode=0o700)
    user = None
    if os.geteuid() == 0:
        user = next(name for name in ("postgres", "nobody") if name in {entry.pw_name for entry in pwd.getpwall()})
        shutil.chown(data, user)
    settings = ["--username", "dyadic", "--auth", "scram-sha-256", "--pwfile", password, "--no-sync", "--encoding", "UTF8"]
    subprocess.run([programs / "initdb", "-D", data, *settings], user=user, check=True, stdout=subprocess.DEVNULL, cwd="/")
    with open(machine.folder / "database.log", "wb") as log:
        flags = ["-p", str(machine.database), "-h", "127.0.0.1", "-k", str(data), "-c", "fsync=off"]
        server = subprocess.Popen([programs / "postgres", "-D", data, *flags], user=user, stdout=log, stderr=log, cwd="/")
    try:
        ready = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(machine.database)]
        until("PostgreSQL answers", 60, lambda: subprocess.run(ready).returncode == 0)
        login = {**os.environ, "PGPASSWORD": password.read_text()}
        create = [programs / "createdb", "-h", "127.0.0.1", "-p", str(machine.database), "-U", "dyadic", "dyadic"]
        subprocess.run(create, env=login, check=True)
        yield server
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)


@contextlib.contextmanager
def moto(machine):
    with open(machine.folder / "blobs.log", "wb") as log:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(machine.blobs)]
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until("the S3-compatible store answers", 60, lambda: answers(f"{machine.endpoint}/moto-api/"), [server])
        urllib.request.urlopen(urllib.request.Request(f"{machine.endpoint}/dyadic", method="PUT")).close()
        yield server
    finally:
        stop(server, 10)


@contextlib.contextmanager
def garage(machine):
    """The compose file's own store, by its own commands."""
    config = (ROOT / "deploy/garage.toml").read_text()
    (machine.folder / "garage.toml").write_text(machine.here(config, "blobs"))
    server = machine.start("blobs")
    try:
        print(f"trial: {' '.join(machine.command('blobs')[1:])}", flush=True)
        until("the store is healthy", 60, lambda: machine.healthy("blobs"), [server])
        yield server
    finally:
        stop(server, 30)


def objects(machine):
    """The bucket, for a look past our own programs."""
    seen = machine.environment("server")
    keys = {
        f"aws_{name}": pathlib.Path(seen[f"AWS_{name.upper()}_FILE"]).read_text() for name in ("access_key_id", "secret_access_key")
    }
    return boto3.resource("s3", endpoint_url=machine.endpoint, region_name=seen["AWS_REGION"], **keys).Bucket("dyadic")


def all_whole(machine):
    """How many objects there are; each must be what its name says."""
    stored = {item.key: hashlib.sha256(item.get()["Body"].read()).hexdigest() for item in objects(machine).objects.all()}
    if damaged := [key for key, digest in stored.items() if key.replace("/", "") != digest]:
        sys.exit(f"the store holds other bytes than the names say: {damaged}")
    return len(stored)


def heal(machine):
    """Damages the data set's object, and pushes again: the first time it is seen, the second time replaced."""
    largest = max(objects(machine).objects.all(), key=lambda item: item.size)
    objects(machine).put_object(Key=largest.key, Body=bytes(largest.size))
    push = [f"{machine.programs}/dyadic", "dataset", "push", machine.folder / "digits", "--name", "digits", "--json"]
    first = subprocess.run(push, env=machine.environment("server"), stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if first.returncode == 0 or "damaged" not in first.stdout + first.stderr:
        sys.exit(f"nobody saw that {largest.key} is damaged: {first.stdout}{first.stderr}")
    machine.dyadic(*push[1:-1])


def digits(folder):
    """A tiny data set in IDX files: bright squares whose place is their label."""
    folder.mkdir()
    source = random.Random(1)
    for prefix, count in (("train", 300), ("t10k", 100)):
        images, labels = bytearray(), bytes(index % 10 for index in range(count))
        for label in labels:
            image = [source.randrange(40) for _ in range(400)]
            for y in range(8):
                for x in range(3):
                    image[(4 + y + label // 5 * 6) * 20 + 2 + x + label % 5 * 3] = source.randrange(180, 256)
            images += bytes(image)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, count, 20, 20) + images)
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, count) + labels)
    return folder


def one_job(machine):
    machine.dyadic("model", "push", ROOT / "graph/tests/fixtures/lenet_relu_dynamo20.onnx", "--name", "lenet")
    machine.dyadic("dataset", "push", digits(machine.folder / "digits"), "--name", "digits")
    spec = ["--method", "aptq", "--mean", "0.1307", "--std", "0.3081", "--epochs", "6", "--batch-size", "20", "--learning-rate", "0.05", "--loss", "labels"]
    reply = json.loads(machine.dyadic("job", "submit", "--model", "lenet", "--dataset", "digits", *spec))
    job = reply["job"]["id"]
    machine.dyadic("job", "watch", job)
    last = {metric["name"]: metric["value"] for metric in json.loads(machine.dyadic("runs", "show", job))["last"]}
    served = json.loads(machine.dyadic("infer", "lenet", "--dataset", machine.folder / "digits", "--batch", "8"))
    if served["accuracy"] != last["accuracy"]:
        sys.exit(f"served {served['accuracy']}, the job said {last['accuracy']}")
    if served["accuracy"] <= 0.15:
        sys.exit(f"accuracy {served['accuracy']}: no better than guessing, which makes the comparison worth nothing")
    return served["accuracy"]


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    store = arguments.add_mutually_exclusive_group()
    store.add_argument("--garage", type=pathlib.Path, metavar="PROGRAM", help="run this as the compose file's own store")
    store.add_argument("--s3", metavar="URL", help="use this store, which runs already")
    arguments.add_argument("--programs", default=ROOT / "target/debug", type=pathlib.Path, help="where the built programs are")
    given = arguments.parse_args()
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    with tempfile.TemporaryDirectory(prefix="dyadic-trial.") as name, contextlib.ExitStack() as stack:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        shutil.copy(ROOT / "deploy/make-secrets.sh", folder)
        subprocess.run([folder / "make-secrets.sh"], check=True)
        # In a container the files stand alone; here PostgreSQL's user has to come by them.
        (folder / "secrets").chmod(0o755)
        machine = Machine(folder, given.programs.resolve(), compose, given)
        try:
            stack.enter_context(postgres(machine))
            if given.s3:
                for name, secret in (("AWS_ACCESS_KEY_ID", "blobs_user"), ("AWS_SECRET_ACCESS_KEY", "blobs_password")):
                    (folder / "secrets" / secret).write_text(os.environ[name])
            else:
                stack.enter_context(garage(machine) if given.garage else moto(machine))
            running = {}
            for service, seconds in (("server", 60), ("worker", 0)):
                process = running[service] = machine.start(service)
                stack.callback(lambda process=process: process.poll() is None and process.kill())
                print(f"trial: {' '.join(machine.command(service)[1:])}", flush=True)
                if seconds:
                    until(f"{service} is healthy", seconds, lambda service=service: machine.healthy(service), [process])
            print(f"trial: a job went the whole way, accuracy {one_job(machine):.3f}", flush=True)
            print(f"trial: {all_whole(machine)} objects, each what its name says", flush=True)
            heal(machine)
            print(f"trial: a damaged object is seen and healed, {all_whole(machine)} objects are whole", flush=True)
            for service in ("worker", "server"):
                grace = int(compose["services"][service]["stop_grace_period"].removesuffix("s"))
                if code := stop(running[service], grace):
                    sys.exit(f"{service} ended with {code} on SIGTERM")
            leaked = [p.name for p in folder.glob("*.log") if (folder / "secrets/blobs_password").read_bytes() in p.read_bytes()]
            if leaked:
                sys.exit(f"the blob store's password stands in {leaked}")
        except BaseException:
            for log in sorted(folder.glob("*.log")):
                print(f"--- end of {log.name}\n{log.read_text(errors='replace')[-3000:]}", file=sys.stderr)
            raise
    print("trial: server and worker start, work and stop as docker-compose.yml says")


if __name__ == "__main__":
    main()
