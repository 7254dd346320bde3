"""The doctor's look at the machine: packages and their clashes, ONNX, GPU, servers, memory and disk."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import shutil
import socket
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from flows.doctor import Finding

PROJECT = Path(__file__).resolve().parents[1]
RAY_DASHBOARD = "http://127.0.0.1:8265"
GIB = 2**30


def examine_machine() -> Iterator[Finding]:
    """Everything that does not depend on a configuration."""
    packages = installed()
    yield from check_python()
    yield from check_packages(packages, required())
    yield from check_clashes(packages)
    yield from check_opencv()
    yield from check_onnx()
    yield from check_gpu()
    yield from check_ray(ray_address(), packages.get("ray"))
    yield from check_prefect(prefect_url())
    yield from check_memory()
    yield from check_disk(Path.cwd(), "this folder")
    yield from check_disk(Path(os.environ.get("RAY_TMPDIR", "/tmp")), "Ray's temporary folder")


# Packages


def installed() -> dict[str, str]:
    """Version of each installed distribution, by canonical name."""
    return {canonicalize_name(d.metadata["Name"]): d.version for d in importlib.metadata.distributions()}


def required() -> list[Requirement]:
    """What the project asks for, with the `pipeline` extra; from its metadata, or its pyproject.toml in a checkout."""
    pyproject = PROJECT / "pyproject.toml"
    if pyproject.is_file():
        project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
        return [Requirement(text) for text in project["dependencies"] + project["optional-dependencies"]["pipeline"]]
    wanted = [Requirement(text) for text in importlib.metadata.requires("adaface") or []]
    return [r for r in wanted if r.marker is None or r.marker.evaluate({"extra": "pipeline"})]


def check_python() -> Iterator[Finding]:
    """The interpreter; an older one than the project asks for cannot have installed it."""
    yield Finding("ok", "python", f"{'.'.join(map(str, sys.version_info[:3]))} ({sys.executable})")


def check_packages(packages: Mapping[str, str], requirements: list[Requirement]) -> Iterator[Finding]:
    """One line with the versions, and one for each package that is absent or outside its range."""
    there = []
    for requirement in requirements:
        name: str = canonicalize_name(requirement.name)
        version = packages.get(name)
        if version is None and name == "onnxruntime" and "onnxruntime-gpu" in packages:
            name, version = "onnxruntime-gpu", packages["onnxruntime-gpu"]
        if version is None:
            yield Finding("fail", "packages", f"{name} is missing", "pip install -c constraints.txt -e '.[pipeline]'")
        elif not requirement.specifier.contains(Version(version), prereleases=True):
            said = f"{name} {version} is outside {requirement.specifier}, which the project was tested with"
            yield Finding("warn", "packages", said, f"pip install -c constraints.txt '{name}{requirement.specifier}'")
        else:
            there.append(f"{name} {version}")
    yield Finding("ok", "packages", "\n".join(", ".join(there[i : i + 5]) for i in range(0, len(there), 5)) or "none")


def check_clashes(packages: Mapping[str, str]) -> Iterator[Finding]:
    """Packages that break one another; pip installs them side by side without a word."""
    if {"onnxruntime", "onnxruntime-gpu"} <= packages.keys():
        yield Finding(
            "fail",
            "packages",
            "onnxruntime and onnxruntime-gpu are both installed: they share a folder, and which one runs is chance",
            "pip uninstall -y onnxruntime onnxruntime-gpu, then pip install ONE of them with -c constraints.txt "
            "(`make gpu` does it for the GPU)",
        )
    headless = sorted(packages.keys() & {"opencv-python-headless", "opencv-contrib-python-headless"})
    if headless and "opencv-python" in packages:
        yield Finding(
            "fail",
            "packages",
            f"opencv-python and {headless[0]} are both installed: they share a folder",
            f"pip uninstall -y opencv-python {headless[0]} && pip install -c constraints.txt opencv-python",
        )
    prefect, fastapi = packages.get("prefect"), packages.get("fastapi")
    if prefect and fastapi and Version(prefect) < Version("3.9") and Version(fastapi) >= Version("0.151"):
        yield Finding(
            "fail",
            "packages",
            f"the server of prefect {prefect} does not start with fastapi {fastapi}",
            "pip install 'fastapi>=0.139,<0.151'",
        )


def check_opencv(module: str = "cv2") -> Iterator[Finding]:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError:
        return  # check_packages has said so
    except ImportError as error:
        remedy = f"reinstall it: pip install --force-reinstall --no-deps -c constraints.txt opencv-python ({error})"
        if "libGL" in str(error) or "libgthread" in str(error) or "libglib" in str(error):
            remedy = "apt-get install -y libgl1 libglib2.0-0 (or what your distribution calls them)"
        yield Finding("fail", "opencv", f"cannot be imported: {error}", remedy)


# Accelerators


def nvidia_gpus() -> list[str]:
    """Names of the NVIDIA GPUs that the driver knows; empty without a driver."""
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in answer.stdout.splitlines() if line.strip()]


def check_onnx() -> Iterator[Finding]:
    try:
        import onnxruntime
    except ImportError as error:
        yield Finding("fail", "onnx", f"onnxruntime cannot be imported: {error}", "see the packages above")
        return
    available = onnxruntime.get_available_providers()
    yield Finding("ok", "onnx", f"onnxruntime {onnxruntime.__version__}: {', '.join(available)}")
    if not nvidia_gpus():
        return
    if "CUDAExecutionProvider" not in available:
        yield Finding("warn", "onnx", "there is a GPU, and onnxruntime cannot use it", "make gpu")
    elif not _cuda_session_works():
        yield Finding(
            "warn",
            "onnx",
            "onnxruntime's CUDA provider does not load and the CPU would be taken",
            "install the CUDA and cuDNN versions that this onnxruntime-gpu asks for (its message is above), or import "
            "a CUDA build of torch, which brings them",
        )


def _cuda_session_works() -> bool:
    """A session on a one-node model; onnxruntime falls back to the CPU where the CUDA libraries do not load."""
    import onnxruntime
    from onnx import TensorProto, helper

    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "probe", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    return "CUDAExecutionProvider" in session.get_providers()


def check_gpu() -> Iterator[Finding]:
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Finding("fail", "gpu", f"torch cannot be imported: {error}", "pip install torch==2.13.0")
        return
    cards = nvidia_gpus()
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        yield Finding("ok", "gpu", f"torch {torch.__version__} sees {', '.join(names)}")
    elif cards:
        said = f"the driver knows {', '.join(cards)}, torch {torch.__version__} does not"
        yield Finding("warn", "gpu", said, "install a CUDA build of torch 2.13.0 (pytorch.org, Get Started)")
    else:
        yield Finding("info", "gpu", f"none; torch {torch.__version__} runs on the CPU")


# Servers


def ray_address() -> str | None:
    """The cluster that the environment names, as every Ray command reads it."""
    return os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS") or None


def check_ray(address: str | None, local_version: str | None, default: str = RAY_DASHBOARD) -> Iterator[Finding]:
    """`address` as in RAY_ADDRESS; None: whether a dashboard answers at the usual place."""
    if address in ("auto", "local"):
        yield Finding("info", "ray", f"RAY_ADDRESS is {address!r}: found or started by each job")
        return
    parts = urlsplit(address or default)
    if parts.scheme not in ("http", "https"):  # host:6379, ray://host:10001
        yield _tcp(str(address))
        return
    url = f"{parts.scheme}://{parts.netloc}"
    try:
        version = json.loads(_get(f"{url}/api/version")).get("ray_version")
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            remedy = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) to the cluster's token"
            yield Finding("warn", "ray", f"the cluster at {url} wants a token", remedy)
        else:
            yield Finding("warn", "ray", f"{url} answers with status {error.code}", "is this a Ray dashboard?")
    except (OSError, ValueError) as error:
        if address is None:
            said = "no cluster named and none at the usual place: each job starts a local Ray by itself"
            yield Finding("info", "ray", said, "to use a cluster: --address, or RAY_ADDRESS=http://HEAD:8265")
        else:
            remedy = "start it (ray start --head), correct RAY_ADDRESS, or unset it to run locally"
            yield Finding("warn", "ray", f"RAY_ADDRESS is {address}, and it cannot be reached: {error}", remedy)
    else:
        if local_version and version != local_version:
            said = f"the cluster at {url} runs ray {version}, here is {local_version}"
            yield Finding("warn", "ray", said, f"install ray=={version} here or {local_version} there")
        else:
            yield Finding("ok", "ray", f"{url} runs ray {version}")


def _tcp(address: str) -> Finding:
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        port = parts.port or 6379
        socket.create_connection((parts.hostname or "", port), timeout=3).close()
    except (OSError, ValueError) as error:
        remedy = "start it (ray start --head), correct RAY_ADDRESS, or unset it to run locally"
        return Finding("warn", "ray", f"RAY_ADDRESS is {address}, and it cannot be reached: {error}", remedy)
    return Finding("ok", "ray", f"something listens at {address}")


def prefect_url() -> str | None:
    """PREFECT_API_URL from the environment or the active Prefect profile."""
    if url := os.environ.get("PREFECT_API_URL"):
        return url
    try:
        from prefect.settings import get_current_settings
    except (ImportError, TypeError):  # TypeError: a fastapi that prefect does not understand
        return None
    return get_current_settings().api.url


def check_prefect(url: str | None) -> Iterator[Finding]:
    if url is None:
        said = "no server named: flows run by themselves with a temporary one"
        remedy = "for deployments and schedules: prefect server start, and PREFECT_API_URL=http://127.0.0.1:4200/api"
        yield Finding("info", "prefect", said, remedy)
        return
    try:
        healthy = json.loads(_get(f"{url.rstrip('/')}/health")) is True
    except (OSError, ValueError) as error:
        remedy = "start it (prefect server start), or correct PREFECT_API_URL"
        yield Finding("warn", "prefect", f"no server answers at {url}: {error}", remedy)
        return
    if healthy:
        yield Finding("ok", "prefect", f"the server at {url} is healthy")
    else:
        yield Finding("warn", "prefect", f"the server at {url} says it is not healthy", "look at its log")


def _get(url: str) -> str:
    """Body of a GET. A proxy is never asked for this very machine."""
    local = urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
    handlers = [urllib.request.ProxyHandler({})] if local else []
    with urllib.request.build_opener(*handlers).open(url, timeout=3) as answer:
        return answer.read(100_000).decode("utf-8", errors="replace")


# Memory and disk


def check_memory(shared: Path = Path("/dev/shm")) -> Iterator[Finding]:
    """CPUs, and the shared memory that Ray keeps its objects in."""
    yield Finding("ok", "machine", f"{os.cpu_count()} CPUs")
    if shared.is_dir() and (size := shutil.disk_usage(shared).total) < GIB:
        said = f"{shared} has {size / 2**20:.0f} MiB; Ray will keep its objects on disk, slowly"
        yield Finding("warn", "machine", said, "in a container: docker run --shm-size=8g")


def check_disk(folder: Path, what: str, area: str = "disk") -> Iterator[Finding]:
    """Free space where `folder` is or will be."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    usage = shutil.disk_usage(folder)
    said = f"{usage.free / GIB:.1f} GiB free for {what} ({folder})"
    if usage.free < GIB:
        yield Finding("fail", area, said, "free some space; below 1 GiB nothing useful can be written")
    elif usage.free < 0.05 * usage.total:
        yield Finding(
            "warn", area, f"{said}, less than 5%", "free some space; Ray refuses objects on a disk that full"
        )
    else:
        yield Finding("ok", area, said)
