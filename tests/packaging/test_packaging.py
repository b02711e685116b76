"""The distribution that users get: built from a clean clone, installed where nothing else is."""

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("session", "actors", "runtime", "adapters")
FACE = "langswarm.core.session"
NEEDS_EXTRA = {  # everything else imports with the declared dependencies only
    f"{FACE}.cli.app": "cli",
    f"{FACE}.cli.demo": "cli",
    f"{FACE}.cli.display": "cli",
    f"{FACE}.testing.pytest_plugin": "test",
    f"{FACE}.testing.simulated_trio": "trio",
}

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(300)]

# Runs in the new environment, isolated from this one: `python -I`, empty working directory.
SMOKE = """
import importlib, sys

prefix, *modules = sys.argv[1:]
for name in modules:
    path = importlib.import_module(name).__file__
    assert path.startswith(prefix), (name, path)
"""


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (ROOT / ".git").exists():
        pytest.skip("needs the git repository: a used tree would ship stale files")
    path = tmp_path_factory.mktemp("packaging") / "clone"
    run("git", "clone", "--quiet", ROOT, path, cwd=path.parent)
    return path


@pytest.fixture(scope="module")
def distributions(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", path, clone, cwd=path)  # sdist, wheel from it
    return path


@pytest.fixture(scope="module")
def wheel(distributions: Path) -> Path:
    (path,) = distributions.glob("*.whl")
    return path


def packaged_names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def tracked_names(clone: Path) -> set[str]:
    """Every tracked file of the four folders, under the name that the mapping gives it."""
    config = tomllib.loads((clone / "pyproject.toml").read_text())
    mapping: dict[str, str] = config["tool"]["setuptools"]["package-dir"]
    homes = {folder: package.replace(".", "/") for package, folder in mapping.items()}
    longest_first = sorted(homes, key=len, reverse=True)
    names: set[str] = set()
    for name in run("git", "ls-files", *FOLDERS, cwd=clone).splitlines():
        folder = next(folder for folder in longest_first if name.startswith(f"{folder}/"))
        names.add(homes[folder] + name.removeprefix(folder))
    return names


def test_wheel_holds_exactly_the_tracked_files(clone: Path, wheel: Path) -> None:
    names = packaged_names(wheel)
    assert names == tracked_names(clone)
    assert "langswarm/core/session/py.typed" in names


def test_sdist_carries_what_a_build_needs(distributions: Path) -> None:
    (path,) = distributions.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {"pyproject.toml", "LICENSE", "README.md", "session/py.typed"} <= names


def test_every_module_imports_with_what_it_declares(wheel: Path, tmp_path: Path) -> None:
    environment, empty = tmp_path / "environment", tmp_path / "empty"
    empty.mkdir()
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=empty)
    python = environment / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet")
    smoke = (python, "-I", "-c", SMOKE, environment)
    modules = {
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in packaged_names(wheel)
        if name.endswith(".py")
    }
    assert {FACE, *NEEDS_EXTRA} <= modules

    run(*pip, wheel, cwd=empty)
    run(*smoke, *sorted(modules - NEEDS_EXTRA.keys()), cwd=empty)

    run(*pip, f"{wheel}[{','.join(NEEDS_EXTRA.values())}]", cwd=empty)
    run(*smoke, *sorted(NEEDS_EXTRA), cwd=empty)
    assert (environment / "bin" / "langswarm-session").exists()
