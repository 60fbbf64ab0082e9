#!/usr/bin/env python3
"""Runs one command in a virtual machine that has two soft-RoCE devices.

virtme-ng composes the machine: a kernel from the cache over the host's root
file system, read-only. It is started from here rather than by virtme-ng, so
that its end, its time limit and its first process (the file `init` beside this
one) are in our hands. The two sides talk through a folder of which the machine
sees nothing but this job: `argv`, `environment` and `settings` go in, `ready`
and `status` come out.
"""

import argparse
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

# As timeout(1) has it: the time is up; the fault is ours, not the command's.
TIMED_OUT = 124
FAILED = 125

HERE = Path(__file__).resolve().parent
KVM_DEADLINE = 20
BOOT_DEADLINE = float(os.environ.get("TRESPASS_BOOT_TIMEOUT", 180))
CPUS = os.environ.get("TRESPASS_VM_CPUS", "2")
MEMORY = os.environ.get("TRESPASS_VM_MEMORY", "4G")


class Stopped(Exception):
    """A signal has asked us to end."""


class Failed(Exception):
    """The machine did not do its part."""


def say(message):
    print(f"with-rdma: {message}", file=sys.stderr, flush=True)


def cache_dir():
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TRESPASS_CACHE") or Path(cache) / "trespass")


def compose(cache, accelerator, job, results, stdout, stderr):
    """The qemu command line, for a job folder that exists."""
    kernel = cache / "kernel"
    modules = (kernel / "modules").resolve()
    vmlinuz = kernel / "boot" / f"vmlinuz-{modules.name}"
    options = [
        "--kimg", vmlinuz, "--mods", "auto", "--busybox", kernel / "bin/busybox",
        "--cpus", CPUS, "--memory", MEMORY,
        # The virtiofsd that Debian 12 has is not the one virtme-ng can use.
        "--force-9p", "--disable-microvm", "--disable-monitor",
        # A trusted TSC makes reading the clock cheap; without it that is a
        # system call and an access to an emulated device.
        *(f"--kopt={word}" for word in (
            "console=ttyS0", "loglevel=4", "panic=-1", "tsc=reliable",
            "nokaslr", "mitigations=off", "audit=0", "apparmor=0")),
    ]  # fmt: skip
    if accelerator == "tcg":
        options += ["--disable-kvm"]

    def folder(tag, path, how=""):
        path = str(path).replace(",", ",,")
        return ["-fsdev", f"local,id={tag},path={path},security_model=none,multidevs=remap{how}",
                "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]  # fmt: skip

    def port(name, fd):
        return ["-chardev", f"file,id={name},path=/proc/self/fd/{fd}",
                "-device", f"virtserialport,bus=ports.0,chardev={name},name={name}"]  # fmt: skip

    options += [
        "--qemu-opts", "-no-reboot", *folder("root", "/", ",readonly=on"),
        *folder("job", job), *folder("results", results),
        "-device", "virtio-serial-pci,id=ports", *port("stdout", stdout), *port("stderr", stderr),
    ]  # fmt: skip
    if accelerator == "tcg":
        # Five levels of page tables would only slow the emulation down.
        options += ["-accel", "tcg,thread=multi", "-cpu", "max,la57=off"]

    initramfs = job.parent / "initramfs"
    initramfs.unlink(missing_ok=True)
    composed = subprocess.run(
        [cache / "venv/bin/virtme-run", "--dry-run", "--show-command",
         "--save-initramfs", initramfs, *options],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    if composed.returncode:
        raise Failed(f"virtme-ng cannot compose the machine:\n{composed.stdout}{composed.stderr}")
    qemu = shlex.split(composed.stdout)

    def replace(option, edit):
        index = qemu.index(option) + 1
        qemu[index] = edit(qemu[index])

    # A copy, because the kernel takes no path with a space in it.
    init = shutil.copy(HERE / "init", job.parent)
    replace("-append", lambda words: re.sub(r"\binit=\S+", f"init={init}", words))
    # One console will do, and the serial one works from the first moment.
    replace("-append", lambda words: words.replace("console=hvc0", ""))
    if accelerator == "kvm":
        # Not "or else emulation": that would hide the answer we probe for.
        qemu[qemu.index("accel=kvm:tcg")] = "accel=kvm"
    elif (kernel / "boot/vmlinux").exists():
        replace("-kernel", lambda _: str(kernel / "boot/vmlinux"))
    return qemu


def write_job(job, cache, results, argv, accelerator):
    environment = {
        **os.environ,
        "TRESPASS_RDMA_ADDRS": "10.9.0.1 10.9.0.2",
        "TRESPASS_RDMA_ON": accelerator,
        "TRESPASS_RESULTS": str(results),
        # So that the command finds ip, tc and rdma, whoever the user is.
        "PATH": os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin",
    }
    scratch = ["/tmp", "/var/tmp", str(Path.home() / ".cache"), os.environ.get("TMPDIR", "/tmp")]
    settings = {
        "modules": shlex.quote(str(cache / "kernel")),
        "results": shlex.quote(str(results)),
        "directory": shlex.quote(os.getcwd()),
        "scratch": f"({shlex.join(dict.fromkeys(scratch))})",
    }

    def strings(items):
        return b"".join(os.fsencode(item) + b"\0" for item in items)

    job.mkdir()
    (job / "argv").write_bytes(strings(argv))
    (job / "environment").write_bytes(strings(f"{k}={v}" for k, v in environment.items()))
    (job / "settings").write_text("".join(f"{k}={v}\n" for k, v in settings.items()))


class Relay(threading.Thread):
    """Hands on what arrives in a pipe.

    Never gives qemu our own file descriptor: it would truncate a file, and a
    socket it cannot open.
    """

    def __init__(self, sink):
        super().__init__(daemon=True)
        self.source, self.inlet = os.pipe()
        self.sink = sink
        self.start()

    def run(self):
        while data := os.read(self.source, 1 << 16):
            self.sink(data)


def write_to(fd):
    def sink(data):
        try:
            while data:
                data = data[os.write(fd, data):]
        except BrokenPipeError:
            os.kill(os.getpid(), signal.SIGPIPE)

    return sink


def run(cache, accelerator, results, argv, *, boot_deadline, timeout):
    """Boots, runs argv, returns its exit status."""
    console = bytearray()
    with tempfile.TemporaryDirectory(prefix="with-rdma-") as directory:
        job = Path(directory) / "job"
        write_job(job, cache, results, argv, accelerator)
        relays = [Relay(write_to(1)), Relay(write_to(2)), Relay(console.extend)]
        stdout, stderr, log = (relay.inlet for relay in relays)
        qemu = None
        try:
            command = compose(cache, accelerator, job, results, stdout, stderr)
            qemu = subprocess.Popen(
                # qemu dies with us even when nobody lets us clean up.
                ["setpriv", "--pdeathsig", "KILL", "--", *command],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(stdout, stderr),
                # Ctrl-C is ours to handle.
                start_new_session=True,
            )  # fmt: skip
            in_time = wait(qemu, job / "ready", boot_deadline, timeout)
        finally:
            if qemu:
                qemu.kill()
                qemu.wait()
            # With the last inlet closed, each relay comes to its end.
            for relay in relays:
                os.close(relay.inlet)
            for relay in relays:
                relay.join()

        if (job / "kernel").exists() and (mistakes := (job / "kernel").read_text(errors="replace")):
            say(f"the machine's kernel has failed, and whatever failed after that may be its fault:\n{mistakes}")
        if (job / "status").exists():
            return int((job / "status").read_text())
        if not (job / "ready").exists():
            what = "ended while booting" if in_time else f"did not boot in {boot_deadline:g} s"
        elif in_time:
            what = "ended before the command did"
        else:
            say(f"time limit of {timeout:g} s reached")
            return TIMED_OUT
    text = console[-30000:].decode(errors="replace").replace("\r", "")
    raise Failed(f"the machine ({accelerator}) {what}; its console:\n{text}")


def wait(qemu, ready, boot_deadline, timeout):
    """Waits for the end of qemu; False if a limit comes first."""
    booted = False
    end = time.monotonic() + boot_deadline
    while qemu.poll() is None:
        if not booted and ready.exists():
            booted = True
            end = time.monotonic() + timeout
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def kvm_works(cache):
    """Whether a stock kernel boots under KVM here, found out once per host boot.

    That /dev/kvm exists does not say so: nested under some hypervisors the
    kernel hangs. One of these (it shows as kvm_pvm) is known without trying.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK) or Path("/sys/module/kvm_pvm").exists():
        return False
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    verdicts = cache / "kvm-verdict"
    question = f"{boot} {(cache / 'kernel/modules').resolve().name}"
    if verdicts.exists() and verdicts.read_text().startswith(question):
        return verdicts.read_text().split()[-1] == "works"
    say("trying KVM once...")
    with tempfile.TemporaryDirectory() as results:
        try:
            run(cache, "kvm", Path(results), ["true"], boot_deadline=KVM_DEADLINE, timeout=KVM_DEADLINE)
            verdict = "works"
        except Failed:
            verdict = "fails"
    verdicts.write_text(f"{question} {verdict}\n")
    return verdict == "works"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--timeout", type=float, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("argv", nargs="+")
    args = parser.parse_args()

    def stop(number, _frame):
        raise Stopped(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, stop)
    cache = cache_dir()
    try:
        accelerator = os.environ.get("TRESPASS_VM_ACCEL") or ("kvm" if kvm_works(cache) else "tcg")
        say(f"booting a machine with soft-RoCE ({accelerator})...")
        return run(cache, accelerator, args.results.resolve(), args.argv,
                   boot_deadline=BOOT_DEADLINE, timeout=args.timeout)  # fmt: skip
    except Failed as failure:
        say(failure)
        return FAILED
    except Stopped as signalled:
        return 128 + signalled.args[0]


if __name__ == "__main__":
    sys.exit(main())
