"""Hostile code in every sandbox that this machine has: both ways, as root and as a normal user.

A driver process per (way, user) plays the harness: it holds a key in its environment, builds the
hostile library inside the sandbox, and runs one attack per worker. Not covered: way "none".
"""

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOBODY = 65534

HOSTILE = r"""
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sched.h>
#include <unistd.h>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
struct Inputs { int64_t mode; const int64_t* x; };
struct Outputs { int64_t* y; };
static bool readable(const std::string& path, const char* needle) {
  int fd = open(path.c_str(), O_RDONLY);
  if (fd < 0) return false;
  std::string all; char buffer[4096]; ssize_t n;
  while ((n = read(fd, buffer, sizeof buffer)) > 0) all.append(buffer, n);
  close(fd);
  return all.find(needle) != std::string::npos;
}
static int count_libraries(struct dl_phdr_info* info, size_t, void* data) {
  if (strstr(info->dlpi_name, "torch") || strstr(info->dlpi_name, "numpy")) ++*(int64_t*)data;
  return 0;
}
static bool connects(int family, const void* address, socklen_t length) {
  for (int type : {SOCK_STREAM, SOCK_DGRAM}) {
    int fd = socket(family, type, 0);
    if (fd >= 0 && connect(fd, (const sockaddr*)address, length) == 0) return true;
  }
  return false;
}
static bool connects_unix(const char* path, bool abstract) {
  sockaddr_un a{}; a.sun_family = AF_UNIX;
  strncpy(a.sun_path + abstract, path, sizeof a.sun_path - 2);
  return connects(AF_UNIX, &a, offsetof(sockaddr_un, sun_path) + abstract + strlen(path));
}
static void daemonise(volatile int64_t* counter) {
  if (fork() == 0) {
    setsid(); setpgid(0, 0);
    if (fork() == 0) for (;;) { ++*counter; usleep(1000); }
    _exit(0);
  }
}
extern "C" int run(const Inputs* in, const Outputs* out, void*, void*) {
  int64_t* y = out->y; y[0] = 0;
  switch (in->mode) {
    case 1: {  // the harness's key
      y[0] += readable("/proc/" + std::to_string(HARNESS_PID) + "/environ", "open-sesame");
      y[0] += readable("/proc/" + std::to_string(getppid()) + "/environ", "open-sesame");
      if (DIR* d = opendir("/proc"))
        while (dirent* e = readdir(d))
          y[0] += readable(std::string("/proc/") + e->d_name + "/environ", "open-sesame");
      int fd = open(("/proc/" + std::to_string(HARNESS_PID) + "/mem").c_str(), O_RDONLY);
      y[0] += fd >= 0;
      return 0;
    }
    case 2: y[0] = readable(SECRET, "buried"); return 0;
    case 3: y[0] = readable(PROJECT, "project"); return 0;
    case 4: {  // writes outside
      for (const char* p : {"/written", "/usr/written", SECRET ".written", "/var/tmp/written",
                            "written", "../written", "/proc/sys/kernel/core_pattern"})
        y[0] += open(p, O_WRONLY | O_CREAT, 0666) >= 0;
      y[0] += truncate(SECRET, 0) == 0;
      y[0] += chmod(SECRET, 0) == 0;
      y[0] += rename(SECRET, SECRET ".moved") == 0;
      return 0;
    }
    case 5: {
      sockaddr_in a{}; a.sin_family = AF_INET; a.sin_port = htons(in->x[0]);
      inet_pton(AF_INET, "127.0.0.1", &a.sin_addr);
      y[0] = connects(AF_INET, &a, sizeof a); return 0;
    }
    case 6: y[0] = connects_unix(ABSTRACT, true); return 0;
    case 7: y[0] = connects_unix(SOCKET, false); return 0;
    case 8: {  // signals and other reaches at the harness
      y[0] += kill(HARNESS_PID, SIGKILL) == 0;
      y[0] += syscall(SYS_tgkill, HARNESS_PID, HARNESS_PID, SIGKILL) == 0;
      int pipes[2]; (void)!pipe(pipes);
      y[0] += fcntl(pipes[0], F_SETOWN, HARNESS_PID) == 0;
      rlimit none{0, 0};
      y[0] += prlimit(HARNESS_PID, RLIMIT_CPU, &none, nullptr) == 0;
      y[0] += setpriority(PRIO_PROCESS, HARNESS_PID, 19) == 0;
      kill(-1, SIGKILL);
      return 0;
    }
    case 9: daemonise(y + 1); return 0;
    case 10: while (y[0] < 500) { int c = fork(); if (c == 0) { pause(); _exit(0); }
               if (c < 0) break; ++y[0]; } return 0;
    case 11: while (y[0] < 4096) { char* p = (char*)malloc(1 << 20); if (!p) break;
               memset(p, 1, 1 << 20); ++y[0]; } return 0;
    case 12: *(volatile int*)8 = 1; return 0;
    case 13: exit(3);
    case 14: for (int i = 0; i < 400000; ++i) puts("flood flood flood flood"); fflush(stdout);
             fprintf(stderr, "the end\n"); return 0;
    case 15: std::thread([y] { volatile int64_t* c = y + 1; for (;;) ++*c; }).detach(); return 0;
    case 16: abort();
    case 17: {  // calls that the filter denies
      y[0] += setsid() >= 0; y[0] += setpgid(0, 0) == 0;
      y[0] += socket(AF_UNIX, SOCK_STREAM, 0) >= 0;
      int two[2]; y[0] += socketpair(AF_UNIX, SOCK_DGRAM, 0, two) == 0;
      y[0] += unshare(CLONE_NEWUSER) == 0; y[0] += ptrace(PTRACE_TRACEME, 0, 0, 0) == 0;
      y[0] += syscall(SYS_memfd_create, "m", 0) >= 0;
      y[0] += syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0) > 0;
      y[1] = syscall(SYS_clone3, nullptr, 0) < 0 && errno == ENOSYS; return 0;
    }
    case 18: for (int i = 0; i < 4096; ++i) y[0] += fcntl(i, F_GETFD) >= 0;
             y[1] = getenv("HARNESS_KEY") != nullptr;
             for (char** e = environ; *e; ++e) ++y[2]; return 0;
    case 19: dl_iterate_phdr(count_libraries, y); return 0;
    case 20: y[0] = geteuid(); y[1] = getpid(); return 0;
  }
  return 77;
}
"""

DRIVER = r"""
import fcntl, json, mmap, os, struct, sys, tempfile, threading, time
sys.path.append(sys.argv[1])
from pathlib import Path
from harness.evaluate.sandbox import Limits, probe
from harness.evaluate.launcher import WarmParent
from harness.evaluate.channel import ChannelError
way, secret, project, unix_path, abstract = sys.argv[2:]
isolation = probe(way)
print(json.dumps({"isolation": isolation.way, "details": isolation.details}), flush=True)
if isolation.way != way: sys.exit(0)
parent = WarmParent("none", isolation)
ENV = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
LIMITS = dict(pids=16, memory_bytes=1 << 30, file_bytes=64 << 20, cpu_seconds=60, open_files=128)

def command(argv, files, fetch=None, timeout=30, **limits):
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items(): Path(folder, name).write_text(text)
        r = parent.run_command(argv, job_folder=Path(folder), limits=Limits(**LIMITS | limits),
                               environment=ENV, timeout_seconds=timeout)
        made = Path(folder, fetch).read_bytes() if fetch and Path(folder, fetch).exists() else b""
    return vars(r), made

def build(source):
    r, library = command(["g++", "-O1", "-w", "-shared", "-fPIC", "-pthread", "-o", "lib.so",
        "hostile.cpp", f'-DSECRET="{secret}"', f'-DPROJECT="{project}"', f'-DSOCKET="{unix_path}"',
        f'-DABSTRACT="{abstract}"', f"-DHARNESS_PID={os.getpid()}"],
        {"hostile.cpp": source}, "lib.so")
    return r, library

class Attack:
    def __init__(self, library, mode, x=0, **limits):
        self.folder = tempfile.TemporaryDirectory()
        Path(self.folder.name, "lib.so").write_bytes(library)
        self.memory = os.memfd_create("y", os.MFD_ALLOW_SEALING)
        os.ftruncate(self.memory, 8192)
        fcntl.fcntl(self.memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        self.map = mmap.mmap(self.memory, 8192)
        struct.pack_into("<q", self.map, 0, x)
        self.worker = parent.start_worker(
            job_folder=Path(self.folder.name), descriptors=[self.memory],
            limits=Limits(**LIMITS | limits), environment=ENV, trusted=way == "none")
        tensor = lambda n: {"name": n, "dtype": "int64", "shape": [8], "index": False}
        self.ask({"op": "load", "language": "cpp", "file": "lib.so", "signature":
            {"axes": ["mode"], "inputs": [tensor("x")], "outputs": [tensor("y")]}})
        self.ask({"op": "bind", "workload": {"axes": {"mode": mode}},
            "slots": [{"x": [0, 0], "y": [0, 4096]}]})
    def ask(self, message):
        self.worker.channel.send_json(message)
        answer = self.worker.channel.receive_json(20)
        assert answer["ok"], answer
    def y(self): return list(struct.unpack_from("<8q", self.map, 4096))
    def call(self):
        try: return {"code": self.worker.channel.call("run", 0, 1, 20).return_code, "y": self.y()}
        except ChannelError as error: return {"error": type(error).__name__}
    def moves(self):
        first = self.y()[1]; time.sleep(0.05); return self.y()[1] != first

result, library = build([json.loads(sys.stdin.readline()) for _ in range(2)][1])
print(json.dumps(result), flush=True)
kept = []
for line in sys.stdin:
    q = json.loads(line); op = q.pop("op")
    if op == "command": answer = command(**q)[0]
    elif op == "parallel":
        answers = []
        one = lambda: answers.append(command(**q)[0])
        threads = [threading.Thread(target=one) for _ in range(4)]
        [t.start() for t in threads]; [t.join() for t in threads]; answer = answers
    else:
        attack = Attack(library, **q)
        answer = attack.call() | {"pid": attack.worker.pid}
        if op == "stop":
            answer["ran"] = attack.moves(); attack.worker.stop(); time.sleep(0.02)
            answer["stopped"] = not attack.moves(); attack.worker.resume()
            answer["resumed"] = attack.moves()
        if op == "outlive":
            time.sleep(0.05); answer["ran"] = attack.moves(); attack.worker.kill()
            answer["after"] = attack.moves()
        if op == "die":
            status = attack.worker.exit_status(5); answer["exit"] = status and vars(status)
        if op == "output": answer["output"] = attack.worker.output()
        if op == "keep": kept.append(attack)
        else: attack.worker.kill()
    print(json.dumps(answer), flush=True)
"""


class Driver:
    """The stand-in for the harness. user: None for the current one."""

    def __init__(self, way, user, folder):
        self.folder = folder
        self.secret = folder / "home-secret"
        self.secret.write_text("buried")
        self.secret.chmod(0o644)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.path_socket = socket.socket(socket.AF_UNIX)
        self.path_socket.bind(str(folder / "socket"))
        (folder / "socket").chmod(0o777)
        self.path_socket.listen()
        self.abstract = f"harness-test-{os.getpid()}-{way}-{user}"
        self.abstract_socket = socket.socket(socket.AF_UNIX)
        self.abstract_socket.bind("\0" + self.abstract)
        self.abstract_socket.listen()
        python = sys.executable
        if user is not None:
            folder.chmod(0o777)
            os.chown(self.secret, user, user)
            python = _python_for(user)
        identity = {} if user is None else {"user": user, "group": user, "extra_groups": []}
        self.process = subprocess.Popen(
            [
                python,
                "-I",
                "-B",
                "-c",
                DRIVER,
                str(ROOT),
                way,
                str(self.secret),
                str(ROOT / "pyproject.toml"),
                str(folder / "socket"),
                self.abstract,
            ],
            env={"HARNESS_KEY": "open-sesame", "PATH": "/usr/bin:/bin", "TMPDIR": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            **identity,
        )
        found = self.read()
        if found["isolation"] != way:
            pytest.skip(f"{way} does not work here: {found['details']}")
        self.write("begin")
        self.build = self.ask(HOSTILE)

    def write(self, message):
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def read(self):
        line = self.process.stdout.readline()
        assert line, f"the driver ended with {self.process.wait()}"
        return json.loads(line)

    def ask(self, message):
        self.write(message)
        return self.read()

    def attack(self, mode, op="attack", **options):
        return self.ask({"op": op, "mode": mode, **options})

    def close(self):
        self.process.kill()
        self.process.communicate()
        for endpoint in (self.listener, self.path_socket, self.abstract_socket):
            endpoint.close()


def _python_for(user):
    """An interpreter that `user` may start and that can read the project, or skip."""
    for python in (sys.executable, "/usr/bin/python3"):
        check = f"import sys; sys.path.append({str(ROOT)!r}); import harness.types"
        with contextlib.suppress(OSError):
            if not subprocess.run(
                [python, "-I", "-c", check], user=user, capture_output=True, cwd="/", check=False
            ).returncode:
                return python
    pytest.skip("no Python 3.11 here that another user could start")


USERS = [None, NOBODY] if os.geteuid() == 0 else [None]


@pytest.fixture(
    scope="module",
    params=[(way, user) for way in ("namespaces", "landlock") for user in USERS],
    ids=lambda p: f"{p[0]}-{'normal-user' if p[1] or os.geteuid() else 'root'}",
)
def driver(request):
    with tempfile.TemporaryDirectory() as folder:
        driver = Driver(*request.param, Path(folder))
        yield driver
        driver.close()


def test_the_hostile_library_is_built_inside_the_sandbox(driver):
    assert driver.build["returncode"] == 0, driver.build


def test_a_worker_cannot_read_a_key_in_the_environment_of_the_harness(driver):
    assert driver.attack(1) | {"pid": 0} == {"code": 0, "y": [0] * 8, "pid": 0}


def test_a_worker_cannot_read_files_of_the_home_folder_or_the_project(driver):
    assert driver.attack(2)["y"][0] == 0
    assert driver.attack(3)["y"][0] == 0


def test_a_worker_cannot_write_outside_or_change_modes(driver):
    assert driver.attack(4)["y"][0] == 0
    assert driver.secret.read_text() == "buried"
    assert driver.secret.stat().st_mode & 0o777 == 0o644


def test_a_worker_cannot_reach_tcp_or_unix_sockets(driver):
    port = driver.listener.getsockname()[1]
    assert driver.attack(5, x=port)["y"][0] == 0
    assert driver.attack(6)["y"][0] == 0
    assert driver.attack(7)["y"][0] == 0


def test_a_worker_cannot_signal_or_slow_the_harness(driver):
    bystander = subprocess.Popen(["sleep", "60"])
    assert driver.attack(8)["y"][0] == 0
    assert bystander.poll() is None
    assert driver.process.poll() is None
    bystander.kill()
    bystander.wait()


def test_a_daemonised_child_does_not_outlive_kill(driver):
    answer = driver.attack(9, "outlive")
    assert answer["ran"] is True
    assert answer["after"] is False


def test_a_fork_bomb_is_bounded(driver):
    assert 1 <= driver.attack(10, pids=12)["y"][0] <= 12


def test_memory_is_bounded(driver):
    assert 32 <= driver.attack(11, memory_bytes=128 << 20)["y"][0] <= 128


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (12, {"code": None, "signal": "SIGSEGV"}),
        (16, {"code": None, "signal": "SIGABRT"}),
        (13, {"code": 3, "signal": None}),
    ],
)
def test_the_end_of_a_worker_is_reported_as_it_was(driver, mode, expected):
    answer = driver.attack(mode, "die")
    assert answer["error"] == "WorkerGone"
    assert answer["exit"] == expected


def test_flooding_the_output_neither_blocks_nor_is_kept_whole(driver):
    answer = driver.attack(14, "output")
    assert answer["code"] == 0
    assert len(answer["output"]) < 70_000
    assert answer["output"].startswith("flood")
    assert answer["output"].endswith("the end\n")


def test_stop_halts_every_thread_and_resume_lets_them_go_on(driver):
    answer = driver.attack(15, "stop")
    assert (answer["ran"], answer["stopped"], answer["resumed"]) == (True, True, True)


def test_denied_system_calls_fail_and_clone3_looks_absent(driver):
    assert driver.attack(17)["y"][:2] == [0, 1]


def test_a_worker_holds_its_descriptors_and_environment_only(driver):
    # null, two outputs, the channel's two pipes, the duplicate that the memory's map keeps
    assert driver.attack(18)["y"][:3] == [6, 0, 3]


def test_a_cpp_worker_has_neither_torch_nor_numpy(driver):
    assert driver.attack(19)["y"][0] == 0


def test_a_worker_is_never_root(driver):
    assert driver.attack(20)["y"][0] != 0


def test_the_same_attacks_succeed_where_nothing_isolates():
    with tempfile.TemporaryDirectory() as folder:
        driver = Driver("none", None, Path(folder))
        try:
            assert all(driver.attack(mode)["y"][0] > 0 for mode in (1, 2, 3))
        finally:
            driver.close()


def test_a_build_cannot_include_files_of_the_home_folder_or_the_project(driver):
    for path in (driver.secret, ROOT / "pyproject.toml", "/etc/passwd"):
        result = driver.ask(
            {
                "op": "command",
                "argv": ["g++", "-c", "a.cpp"],
                "files": {"a.cpp": f'#include "{path}"'},
            }
        )
        assert result["returncode"] == 1
        assert "buried" not in result["stderr"]
        assert "root" not in result["stderr"]
        assert "project" not in result["stderr"].replace(str(path), "")


def test_a_command_that_hangs_is_killed_with_its_children(driver):
    start = time.monotonic()
    script = "sleep 60 & echo started; sleep 60"
    result = driver.ask(
        {"op": "command", "argv": ["/bin/sh", "-c", script], "files": {}, "timeout": 0.3}
    )
    assert result["timed_out"] is True
    assert result["stdout"] == "started\n"
    assert time.monotonic() - start < 3


def test_a_command_that_does_not_exist_is_our_failure():
    from harness.errors import InfraError
    from harness.evaluate.launcher import WarmParent
    from harness.evaluate.sandbox import Limits, probe

    with (
        tempfile.TemporaryDirectory() as folder,
        WarmParent("none", probe()) as parent,
        pytest.raises(InfraError, match="FileNotFoundError"),
    ):
        parent.run_command(
            ["no-such-compiler"],
            job_folder=Path(folder),
            limits=Limits(),
            environment={"PATH": "/usr/bin"},
            timeout_seconds=5,
        )


def test_commands_of_several_threads_run_at_once(driver):
    start = time.monotonic()
    answers = driver.ask(
        {"op": "parallel", "argv": ["/bin/sh", "-c", "sleep 2; echo $$"], "files": {}}
    )
    assert [a["returncode"] for a in answers] == [0] * 4
    assert time.monotonic() - start < 4 * 2


def _tree(pid):
    """Start times of the processes below `pid`, by process id."""
    table = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            table[int(name)] = (int(fields[1]), fields[19], fields[0])
    below, grown = {pid}, True
    while grown:
        more = {p for p, (parent, _, _) in table.items() if parent in below} - below
        below, grown = below | more, bool(more)
    return {p: table[p][1] for p in below if p in table}


def _alive(tree):
    """Those that still run (a zombie whose parent has not looked yet does not)."""
    left = []
    for pid, started in tree.items():
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            if fields[19] == started and fields[0] != "Z":
                left.append(pid)
    return left


def test_killing_the_owner_leaves_no_process(driver):
    for mode in (9, 15):  # a daemonised child, a spinning thread; the second group is stopped
        kept = driver.attack(mode, "keep")
    time.sleep(0.05)
    os.killpg(kept["pid"], signal.SIGSTOP)
    tree = _tree(driver.process.pid)
    assert len(tree) >= 7
    driver.process.kill()
    driver.process.wait()
    deadline = time.monotonic() + 2
    while _alive(tree) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert _alive(tree) == []


def test_a_warm_parent_outlives_the_thread_that_made_it():
    from harness.evaluate.launcher import WarmParent
    from harness.evaluate.sandbox import Limits, probe

    made = []
    thread = threading.Thread(target=lambda: made.append(WarmParent("none", probe())))
    thread.start()
    thread.join()
    with tempfile.TemporaryDirectory() as folder, made[0] as parent:
        result = parent.run_command(
            ["/bin/echo", "alive"],
            job_folder=Path(folder),
            limits=Limits(),
            environment={},
            timeout_seconds=5,
        )
    assert result.stdout == "alive\n"


def test_an_untrusted_worker_is_refused_where_nothing_isolates():
    from harness.errors import EnvironmentMissing
    from harness.evaluate.launcher import WarmParent
    from harness.evaluate.sandbox import Isolation, Limits

    nothing = Isolation("none", ("tested",), 0, can_hide_keys=False)
    with WarmParent("none", nothing) as parent, pytest.raises(EnvironmentMissing, match="trust"):
        parent.start_worker(
            job_folder=Path("/tmp"), descriptors=[], limits=Limits(), environment={}
        )


def _verdict(program, architecture, number, *arguments):
    """What a seccomp program answers: a small interpreter of the instructions that it uses."""
    data = struct.pack("<iIQ6Q", number, architecture, 0, *(*arguments, *[0] * 6)[:6])
    code = [struct.unpack_from("<HBBI", program, i) for i in range(0, len(program), 8)]
    tests = {
        0x15: lambda a, k: a == k,
        0x25: lambda a, k: a > k,
        0x35: lambda a, k: a >= k,
        0x45: lambda a, k: bool(a & k),
    }
    accumulator, position = 0, 0
    while True:
        operation, if_true, if_false, operand = code[position]
        position += 1
        if operation == 0x06:
            return operand
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, operand)
        else:
            position += if_true if tests[operation](accumulator, operand) else if_false


ALLOW, KILL, EPERM, ENOSYS = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026


@pytest.mark.parametrize(
    ("machine", "architecture", "read", "setsid", "clone", "tgkill", "prlimit64"),
    [("x86_64", 0xC000003E, 0, 112, 56, 234, 302), ("aarch64", 0xC00000B7, 63, 157, 220, 131, 261)],
)
def test_the_filter_of_either_architecture_decides_as_documented(
    machine, architecture, read, setsid, clone, tgkill, prlimit64
):
    from harness.evaluate.seccomp import assemble

    own = assemble(machine, shared_processes=True, signals_confined=False, own_pid=77)
    assert _verdict(own, architecture, read) == ALLOW
    assert _verdict(own, architecture, setsid) == EPERM
    assert _verdict(own, architecture, clone, signal.SIGCHLD) == ALLOW
    assert _verdict(own, architecture, clone, 0x10000000 | signal.SIGCHLD) == EPERM
    assert _verdict(own, architecture, 435) == ENOSYS  # clone3
    assert _verdict(own, architecture, 463) == ENOSYS  # newer than what was considered
    assert _verdict(own, architecture, tgkill, 77, 77, 6) == ALLOW
    assert _verdict(own, architecture, tgkill, 78, 78, 6) == EPERM
    assert _verdict(own, architecture, prlimit64, 0) == ALLOW
    assert _verdict(own, architecture, prlimit64, 78) == EPERM
    assert _verdict(own, 0x40000003, read) == KILL  # 32-bit x86
    assert _verdict(own, architecture, 0x40000000 | read) == KILL  # x32


@pytest.mark.parametrize(
    ("machine", "architecture", "read", "setsid", "clone"),
    [("x86_64", 0xC000003E, 0, 112, 56), ("aarch64", 0xC00000B7, 63, 157, 220)],
)
def test_attacks_and_new_processes_kill_where_that_is_asked_for(
    machine, architecture, read, setsid, clone
):
    from harness.evaluate.seccomp import assemble

    strict = assemble(
        machine, shared_processes=False, signals_confined=True, own_pid=77, attacks_kill=True
    )
    thread = 0x003D0F00  # what pthread_create asks for
    assert _verdict(strict, architecture, read) == ALLOW
    assert _verdict(strict, architecture, setsid) == KILL
    assert _verdict(strict, architecture, clone, thread) == ALLOW
    assert _verdict(strict, architecture, clone, signal.SIGCHLD) == KILL
    assert _verdict(strict, architecture, clone, 0x10000000 | thread) == KILL
    assert _verdict(strict, architecture, 435) == ENOSYS  # clone3: the C library then uses clone
    if machine == "x86_64":
        assert _verdict(strict, architecture, 57) == KILL  # fork
        assert _verdict(strict, architecture, 58) == KILL  # vfork


def test_landlock_rules_leave_out_what_is_hidden(tmp_path):
    from harness.evaluate.landlock import LIST_ONLY, READ, without

    for name in ("site/torch", "site/suites", "bin"):
        (tmp_path / name).mkdir(parents=True)
    rules = dict(without(str(tmp_path), [str(tmp_path / "site/suites")]))
    assert rules == {
        str(tmp_path): LIST_ONLY,
        str(tmp_path / "bin"): READ,
        str(tmp_path / "site"): LIST_ONLY,
        str(tmp_path / "site/torch"): READ,
    }
