"""Each check of the doctor, against real packages, real sockets and real files."""

from __future__ import annotations

import io
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from packaging.requirements import Requirement

from flows.doctor import Finding, examine, exit_code, print_json, print_table
from flows.doctor_config import check_output, check_sources, examine_config
from flows.doctor_machine import (
    check_clashes,
    check_disk,
    check_memory,
    check_opencv,
    check_packages,
    check_prefect,
    check_ray,
    installed,
    ray_address,
    required,
)
from tests.tiny_evaluation import make_encoder


def levels(findings) -> list[str]:
    return [finding.level for finding in findings]


@contextmanager
def server(answers: dict[str, tuple[int, str]]) -> Iterator[str]:
    """An HTTP server that knows a few paths; yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.get(self.path, (404, ""))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}"
        finally:
            http.shutdown()
            thread.join()


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# Packages


def test_this_environment_has_what_the_project_asks_for():
    findings = [*check_packages(installed(), required()), *check_clashes(installed()), *check_opencv()]
    assert set(levels(findings)) == {"ok"}, findings


def test_requirements_include_the_pipeline_but_not_the_gpu():
    names = {requirement.name for requirement in required()}
    assert {"torch", "ray", "prefect", "onnxruntime"} <= names
    assert "onnxruntime-gpu" not in names and "pytest" not in names


def test_missing_and_foreign_versions():
    requirements = [Requirement("torch==2.13.*"), Requirement("ray>=2.60"), Requirement("pyyaml>=6")]
    missing, foreign, rest = check_packages({"ray": "2.40.0", "pyyaml": "6.0.3"}, requirements)
    assert missing.level == "fail" and "torch is missing" in missing.what and ".[pipeline]" in missing.remedy
    assert foreign.level == "warn" and "ray 2.40.0" in foreign.what and "ray>=2.60" in foreign.remedy
    assert rest == Finding("ok", "packages", "pyyaml 6.0.3")


def test_a_local_build_of_torch_counts_as_its_version():
    assert levels(check_packages({"torch": "2.13.0+cpu"}, [Requirement("torch==2.13.*")])) == ["ok"]


def test_onnxruntime_gpu_stands_for_onnxruntime():
    (finding,) = check_packages({"onnxruntime-gpu": "1.31.1"}, [Requirement("onnxruntime>=1.31,<2")])
    assert finding.level == "ok" and "onnxruntime-gpu 1.31.1" in finding.what


def test_packages_that_break_one_another():
    assert not list(check_clashes({"onnxruntime": "1.32.0", "opencv-python": "5.0", "prefect": "3.8.8"}))
    (both,) = check_clashes({"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.1"})
    assert both.level == "fail" and "pip uninstall -y onnxruntime onnxruntime-gpu" in both.remedy
    (opencv,) = check_clashes({"opencv-python": "5.0", "opencv-python-headless": "5.0"})
    assert opencv.level == "fail" and "pip uninstall -y" in opencv.remedy
    (fastapi,) = check_clashes({"prefect": "3.8.8", "fastapi": "0.165.0"})
    assert fastapi.level == "fail" and fastapi.remedy == "pip install 'fastapi>=0.139,<0.151'"
    assert not list(check_clashes({"prefect": "3.9.1", "fastapi": "0.165.0"}))


@pytest.mark.parametrize(
    ("message", "remedy"),
    [("libGL.so.1: cannot open shared object file", "apt-get install -y libgl1"), ("bad magic number", "reinstall")],
)
def test_an_opencv_that_does_not_load(message, remedy, tmp_path, monkeypatch):
    (tmp_path / "broken_cv2.py").write_text(f"raise ImportError({message!r})")
    monkeypatch.syspath_prepend(str(tmp_path))
    (finding,) = check_opencv("broken_cv2")
    assert finding.level == "fail" and message in finding.what and remedy in finding.remedy
    assert not list(check_opencv("cv2_that_is_not_installed"))  # check_packages reports it


# Servers


def test_a_ray_dashboard_is_found_and_its_version_compared():
    with server({"/api/version": (200, json.dumps({"ray_version": "2.60.0"}))}) as url:
        (same,) = check_ray(url, "2.60.0")
        (usual,) = check_ray(None, "2.60.0", default=url)
        (other,) = check_ray(url, "2.59.0")
    assert same.level == usual.level == "ok" and "2.60.0" in same.what
    assert other.level == "warn" and "2.59.0" in other.what and other.remedy


def test_a_ray_dashboard_that_wants_a_token_or_is_none():
    with server({"/api/version": (401, "")}) as url:
        (token,) = check_ray(url, None)
    assert token.level == "warn" and "RAY_AUTH_TOKEN" in token.remedy
    with server({"/api/version": (200, "<html>")}) as url:
        (page,) = check_ray(url, None)
    assert page.level == "warn"
    with server({}) as url:
        assert levels(check_ray(url, None)) == ["warn"]


def test_an_absent_cluster_is_news_only_when_somebody_named_it(closed_port):
    nowhere = f"http://127.0.0.1:{closed_port}"
    assert levels(check_ray(None, None, default=nowhere)) == ["info"]
    for address in (nowhere, f"127.0.0.1:{closed_port}", f"ray://127.0.0.1:{closed_port}", "host:not-a-port"):
        (finding,) = check_ray(address, None)
        assert finding.level == "warn" and finding.remedy, address
    assert levels(check_ray("auto", None)) == ["info"]


def test_a_ray_address_without_a_dashboard_is_only_knocked_at():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert levels(check_ray(f"127.0.0.1:{port}", None)) == ["ok"]
        assert levels(check_ray(f"ray://127.0.0.1:{port}", None)) == ["ok"]


def test_the_address_comes_from_the_environment(monkeypatch):
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert ray_address() is None
    monkeypatch.setenv("RAY_ADDRESS", "http://a:8265")
    assert ray_address() == "http://a:8265"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://b:8265")
    assert ray_address() == "http://b:8265"


def test_a_prefect_server(closed_port):
    with server({"/api/health": (200, "true")}) as url:
        assert levels(check_prefect(f"{url}/api")) == ["ok"]
        assert levels(check_prefect(f"{url}/api/")) == ["ok"]
        assert levels(check_prefect(url)) == ["warn"]  # /api forgotten
    with server({"/api/health": (200, "false")}) as url:
        assert levels(check_prefect(f"{url}/api")) == ["warn"]
    (absent,) = check_prefect(f"http://127.0.0.1:{closed_port}/api")
    assert absent.level == "warn" and "prefect server start" in absent.remedy
    assert levels(check_prefect(None)) == ["info"]


# Memory, disk, files


def test_disk_is_measured_where_a_folder_will_be(tmp_path):
    (finding,) = check_disk(tmp_path / "not" / "yet", "a dataset")
    assert finding.level in ("ok", "warn") and str(tmp_path) in finding.what and "GiB free" in finding.what
    assert len(list(check_memory(tmp_path))) == 1


def test_sources_that_are_there_and_not(tmp_path):
    from data_pipeline.config import DataConfig

    (tmp_path / "people").mkdir()
    data = DataConfig(
        sources=[{"path": str(tmp_path / "people"), "licence": "mine"}, {"path": str(tmp_path / "nobody")}], output="o"
    )
    there, absent = check_sources(data)
    assert there.level == "ok" and "licence: mine" in there.what
    assert absent.level == "fail" and "nobody" in absent.what and absent.remedy


def test_outputs_that_are_new_started_and_impossible(tmp_path):
    assert "fail" not in levels(check_output(str(tmp_path / "new" / "set")))
    (tmp_path / "config.yaml").write_text("")
    assert any("the job continues it" in finding.what for finding in check_output(str(tmp_path)))
    assert levels(check_output(str(tmp_path / "config.yaml" / "set"))) == ["fail"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    assert levels(check_output(str(tmp_path / "set"))) == ["fail"]


def test_the_demo_configuration_of_this_checkout(shared, project, monkeypatch):
    monkeypatch.chdir(project)
    findings = list(examine_config("configs/demo.yaml"))
    assert "fail" not in levels(findings), findings
    models = [finding.what for finding in findings if finding.area == "models" and finding.level == "ok"]
    assert len(models) == 3 and all("sha256" in model for model in models)


@pytest.mark.parametrize(
    ("config", "overrides", "said"),
    [
        ("evaluate-miniature", ["subjects.folder=nowhere", "output=OUT"], "subjects.folder"),
        ("distill-miniature", ["data.datasets=[nowhere]", "output=OUT"], "nowhere is no finished dataset"),
    ],
)
def test_configurations_of_other_jobs(config, overrides, said, project, monkeypatch, tmp_path):
    monkeypatch.chdir(project)
    overrides = [override.replace("OUT", f"'{tmp_path}'") for override in overrides]
    findings = list(examine_config(f"configs/{config}.yaml", overrides))
    assert findings[0].level == "ok" and f"of {config.partition('-')[0]}, hash" in findings[0].what
    assert any(finding.level == "fail" and finding.area == "inputs" and said in finding.what for finding in findings)
    assert "output" in {finding.area for finding in findings}
    (problem,) = examine_config(f"configs/{config}.yaml", ["outptu=x"])
    assert problem.level == "fail" and "did you mean `output`?" in problem.what


def test_an_encoder_in_an_object_store_is_looked_at_as_the_job_does(project, monkeypatch, tmp_path):
    monkeypatch.chdir(project)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    make_encoder(tmp_path / "store" / "encoder")
    for name, said in (("encoder", []), ("nothing", ["there are no files"])):
        method = f"{{name: ours, kind: encoder, path: 'file://{tmp_path}/store/{name}'}}"
        findings = examine_config("configs/evaluate-miniature.yaml", [f"methods=[{method}]", f"output='{tmp_path}'"])
        about = [finding.what for finding in findings if finding.level == "fail" and "store" in finding.what]
        assert len(about) == len(said) and all(words in what for words, what in zip(said, about, strict=True))


def test_rules_that_no_image_could_pass_are_found(shared, project, monkeypatch):
    monkeypatch.chdir(project)
    for override, said in (
        ("data.min_parts=12", "data.min_parts is 12"),
        (
            "perception.parser.channels=[nose, cloth, hair]",
            "data.min_face_seen is 0.3, but the parser does not know skin",
        ),
    ):
        findings = list(examine_config("configs/demo.yaml", [override]))
        assert any(finding.level == "fail" and said in finding.what for finding in findings)


# The whole


def test_the_examination_of_this_machine(monkeypatch, closed_port):
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", f"http://127.0.0.1:{closed_port}")
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{closed_port}/api")
    findings = examine()
    assert {"python", "packages", "onnx", "gpu", "ray", "prefect", "machine", "disk", "models"} <= {
        f.area for f in findings
    }
    assert all(finding.remedy for finding in findings if finding.level in ("warn", "fail"))
    assert {f.area for f in findings if f.level == "warn"} >= {"ray", "prefect"}


def test_the_table_and_the_exit_code():
    findings = [
        Finding("ok", "disk", "two\nlines"),
        Finding("warn", "ray", "away", "start it"),
        Finding("fail", "packages", "broken", "mend it"),
    ]
    out = io.StringIO()
    print_table(findings, out)
    lines = out.getvalue().splitlines()
    assert lines[0] == "ok    disk      two" and lines[1] == "                lines"
    assert "                -> mend it" in lines
    assert lines[-1] == "1 thing to repair, 1 warning"
    assert "\033[" not in out.getvalue()
    assert exit_code(findings) == 1 and exit_code(findings[:2]) == 0


def test_json_holds_every_finding():
    out = io.StringIO()
    print_json([Finding("warn", "ray", "away", "start it")], out)
    assert json.loads(out.getvalue()) == [{"level": "warn", "area": "ray", "what": "away", "remedy": "start it"}]
