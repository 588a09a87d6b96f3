"""What holds for every process of the project: no hidden threads, and kernels that are compiled once, wherever."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from riverrank.jobs.dev import bundle
from riverrank.state.runtime import environment as runtime
from riverrank.state.runtime import kernels

THREADS = "import json, os; import numpy; numpy.ones((600, 600)) @ numpy.ones((600, 600)); print(json.dumps([{}]))"
COUNT = "len(os.listdir('/proc/self/task'))"
KERNELS = """
from numba import njit
from {package}riverrank_dependency import LIMIT, double

@njit(cache=True)
def quadruple(x):
    return double(double(x)) + LIMIT
"""


def python(code: str, *, cwd: Path | None = None, **environment: str) -> str:
    """What a Python process prints, which has only that of the thread settings which is given."""
    clean = {k: v for k, v in os.environ.items() if k not in (*runtime.THREADS, "NUMBA_CACHE_LOCATOR_CLASSES")}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=clean | environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core: nothing would start a thread")
def test_numpy_starts_threads_of_its_own_unless_a_package_of_the_project_comes_first() -> None:
    assert json.loads(python(THREADS.format(COUNT)))[0] > 1, "nothing to prevent: this test is void"
    for package in ("state", "operators", "jobs", "jobs.cli.main"):
        assert json.loads(python(f"import riverrank.{package}; " + THREADS.format(COUNT))) == [1]


def test_blas_that_was_loaded_before_computes_in_the_callers_thread() -> None:
    code = """
        import ctypes, numpy
        import riverrank.state
        loaded = {line.split()[-1] for line in open("/proc/self/maps") if "openblas" in line}
        print([ctypes.CDLL(path).scipy_openblas_get_num_threads64_() for path in loaded])
    """
    assert python(code) == "[1]"


def test_what_the_environment_says_of_threads_holds() -> None:
    assert python("import os, riverrank.jobs; print(os.environ['OMP_NUM_THREADS'])", OMP_NUM_THREADS="3") == "3"


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core: nothing to share")
@pytest.mark.parametrize("number", [0, 1, len(os.sched_getaffinity(0)), None])
def test_threads_that_run_python_share_the_core_that_the_environment_names(number: int | None) -> None:
    """Two threads that call share_core, and the main thread, that keeps all."""
    code = """
        import os, threading
        from riverrank.state.runtime.environment import share_core
        seen = []
        def task():
            share_core()
            seen.append(frozenset(os.sched_getaffinity(0)))
        for _ in range(2):
            thread = threading.Thread(target=task)
            thread.start()
            thread.join()
        print([sorted(cores) for cores in seen], sorted(os.sched_getaffinity(0)))
    """
    cores = sorted(os.sched_getaffinity(0))
    shared = cores if number is None else [cores[number % len(cores)]]
    assert python(code, **({} if number is None else {"RIVERRANK_CORE": str(number)})) == f"{[shared] * 2} {cores}"


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core: nothing to keep off it")
@pytest.mark.parametrize("number", ["0", ""])
def test_others_are_kept_off_the_core_of_the_thread_that_sets_the_pace(number: str) -> None:
    """Of a thread that calls clear_core, one that shares its core, and the main thread."""
    code = """
        import os, threading
        from riverrank.state.runtime.environment import clear_core, share_core
        ready, end = threading.Barrier(2), threading.Event()
        def share():
            share_core()
            ready.wait()
            end.wait()
        def clear():
            share_core()
            clear_core()
        sharing = threading.Thread(target=share)
        sharing.start()
        ready.wait()
        clearing = threading.Thread(target=clear)
        clearing.start()
        clearing.join()
        print([sorted(os.sched_getaffinity(thread)) for thread in (0, sharing.native_id)])
        end.set()
    """
    cores = sorted(os.sched_getaffinity(0))
    expected = [cores[1:], cores[:1]] if number else [cores, cores]
    assert python(code, RIVERRANK_CORE=number) == f"{expected}"


@pytest.mark.skipif(sys.platform != "linux", reason="threads have names and priorities of their own on Linux alone")
@pytest.mark.parametrize("nice", [0, 5, 15])
def test_threads_of_a_name_step_back_and_no_other_does(nice: int) -> None:
    already = os.getpriority(os.PRIO_PROCESS, 0)
    nice = max(nice, already)
    code = f"""
        import os, threading
        from pathlib import Path
        from riverrank.state.runtime.environment import step_back
        os.nice({nice - already})
        end = threading.Event()
        def writes():
            Path(f"/proc/self/task/{{threading.get_native_id()}}/comm").write_text("AsyncOperations-thread-1")
            named.set()
            end.wait()
        named = threading.Event()
        threads = [threading.Thread(target=writes), threading.Thread(target=end.wait)]
        for thread in threads:
            thread.start()
        named.wait()
        for _ in range(2):
            step_back("AsyncOperations")
        as_it_was = os.getpriority(os.PRIO_PROCESS, 0)
        print([os.getpriority(os.PRIO_PROCESS, thread.native_id) - as_it_was for thread in threads])
        end.set()
    """
    assert python(code) == f"[{min(10, 19 - nice)}, 0]"


def test_numba_has_one_thread() -> None:
    assert python("import riverrank.state, numba; print(numba.config.NUMBA_NUM_THREADS)") == "1"


ADD = """
    import json, sys
    sys.path[:0] = {path!r}
    import numpy as np
    from riverrank.operators.candidates import reached
    held = reached.Reached(columns=1)
    held.fit(capacity=4, most=10)
    held.add(np.array([2, 0, 2], np.int32), np.ones(3, np.float32), 0)
    stats = reached.add.stats
    print(json.dumps([reached.__file__, held.n, sum(stats.cache_hits.values()), sum(stats.cache_misses.values())]))
"""


def test_kernels_of_a_zip_are_found_again_in_another_zip_elsewhere(tmp_path: Path) -> None:
    """`-pyfs` puts the zip into a new folder for each job; numba by itself would compile anew each time."""
    compiled = []
    for number in range(2):
        zipped = tmp_path / f"job-{number}" / "riverrank.zip"
        zipped.parent.mkdir()
        bundle.bundle(zipped)
        file, n, hits, misses = json.loads(
            python(ADD.format(path=[str(zipped)]), cwd=tmp_path, RIVERRANK_CACHE=str(tmp_path / "cache"))
        )
        assert file.startswith(str(zipped)) and n == 2
        compiled.append((hits > 0, misses > 0))
    assert compiled == [(False, True), (True, False)]
    assert list((tmp_path / "cache" / "kernels").rglob("*.nbc"))


def test_kernels_of_a_cache_that_can_only_be_read_are_taken_from_it(tmp_path: Path) -> None:
    if os.getuid() == 0:
        pytest.skip("root can write everywhere")
    image = tmp_path / "image"
    python(ADD.format(path=[]), RIVERRANK_CACHE=str(image))
    for path in (image, *image.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    environment = {"RIVERRANK_CACHE": str(image), "TMPDIR": str(tmp_path)}
    _, _, hits, misses = json.loads(python(ADD.format(path=[]), **environment))
    assert hits > 0 and misses == 0


def test_a_kernel_for_another_cpu_is_compiled_again(tmp_path: Path) -> None:
    environment = {"RIVERRANK_CACHE": str(tmp_path)}
    python(ADD.format(path=[]), **environment)
    _, n, hits, misses = json.loads(python(ADD.format(path=[]), NUMBA_CPU_NAME="generic", **environment))
    assert n == 2 and hits == 0 and misses > 0


def digest_where_defined(folder: Path, dependency: str, kernels_: str) -> str:
    """By which numba asks for `quadruple` of the module `kernels_`, which may import from `dependency`."""
    (folder / "riverrank_dependency.py").write_text(dependency)
    (folder / "riverrank_kernels.py").write_text(kernels_)
    code = "import riverrank.state.runtime.kernels as k; k.OURS = 'riverrank'; import riverrank_kernels as m;"
    code += "print(m.quadruple._cache._impl.locator._digest)"
    return python(code, cwd=folder, RIVERRANK_CACHE=str(folder), PYTHONDONTWRITEBYTECODE="1")


def test_a_kernels_digest_changes_with_what_it_calls_and_the_constants_it_names(tmp_path: Path) -> None:
    """Not with what stands beside it in its module."""

    def digest(dependency: str, more: str = "") -> str:
        return digest_where_defined(tmp_path, dependency, KERNELS.format(package="") + more)

    plain = "from numba import njit\nLIMIT = 3\n@njit(cache=True)\ndef double(x):\n    return 2 * x\n"
    first = digest(plain)
    assert first == digest(plain + "\nOTHER = 4\n") == digest(plain, "\ndef other():\n    pass\n")
    assert len({first, digest(plain.replace("3", "4")), digest(plain.replace("2 * x", "x + x"))}) == 3


def test_a_kernels_digest_changes_with_what_it_calls_that_its_module_defines_after_it(tmp_path: Path) -> None:
    top_down = """
from numba import njit
from riverrank_dependency import LIMIT

@njit(cache=True)
def quadruple(x):
    return double(double(x))

@njit(cache=True)
def double(x):
    return twice(x)

@njit(cache=True)
def twice(x):
    return 2 * x + LIMIT + MORE

MORE = 1
"""
    versions = [top_down, top_down.replace("2 * x", "x + x"), top_down.replace("MORE = 1", "MORE = 2")]
    found = [digest_where_defined(tmp_path, "LIMIT = 3", version) for version in versions]
    found.append(digest_where_defined(tmp_path, "LIMIT = 4", top_down))
    assert len(set(found)) == 4 and found[0] == digest_where_defined(tmp_path, "LIMIT = 3", top_down)


def test_digest_names_what_a_kernel_of_ours_calls() -> None:
    from riverrank.operators.candidates import merging, selection  # noqa: PLC0415

    parts: dict[str, str] = {}
    kernels._collect(merging.merge.py_func, parts)
    of_select = selection.select._cache._impl.locator._digest
    assert len(of_select) == 24 and parts[f"{selection.__name__}.select"] == of_select


def test_a_kernel_and_its_copy_in_what_calls_it_are_never_of_two_versions(tmp_path: Path) -> None:
    """`double` is of all of its module, as it names `LATER` before that is there; so `quadruple`, which has a copy of
    it, is too. Of two versions numba may find neither, and say `SystemError: .. descr is NULL`.
    """
    module = """
from numba import njit

@njit(cache=True)
def double(x):
    return LATER * x

LATER = 2

@njit(cache=True)
def quadruple(x):
    return double(double(x))

def other():
    return {value}
"""
    first, again, second = (digest_where_defined(tmp_path, "", module.format(value=value)) for value in (1, 1, 2))
    assert first == again != second
