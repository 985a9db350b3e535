"""What is said about the package in several places is the same in all of them.

What is built is checked by ``tox -e package``, see ``check_wheel.py``.
"""

import ast
import configparser
import io
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from readme_renderer import rst

import servomex
from tests.helpers.options import options
from tests.helpers.paths import ROOT

WORKFLOWS = ROOT / ".github" / "workflows"
TEMPLATE = ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml"
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def read_yaml(path: Path) -> dict[str, Any]:
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(found, dict), path
    return found


def jobs(name: str) -> dict[str, Any]:
    """The jobs of a workflow."""
    found = read_yaml(WORKFLOWS / f"{name}.yml")["jobs"]
    assert isinstance(found, dict)
    return found


def matrix(job: str) -> dict[str, Any]:
    """What a job of the CI workflow is run with."""
    found = jobs("ci")[job]["strategy"]["matrix"]
    assert isinstance(found, dict)
    return found


def tox(section: str) -> configparser.SectionProxy:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "tox.ini", encoding="utf-8")
    return parser[section]


def environments() -> list[str]:
    return tox("tox")["env_list"].split(", ")


def classified(prefix: str) -> list[str]:
    """What is behind a prefix in the classifiers."""
    start = f"{prefix} :: "
    return [item.removeprefix(start) for item in PYPROJECT["project"]["classifiers"] if item.startswith(start)]


def shortest(requirement: str) -> str:
    """Drop what a version does not need: 16.0.0 is 16."""
    return re.sub(r"(\.0)+$", "", requirement)


class TestVersions:
    def test_the_python_versions_are_the_same_everywhere(self) -> None:
        versions = [item for item in classified("Programming Language :: Python") if re.match(r"3\.\d+$", item)]
        assert versions == ["3.11", "3.12", "3.13", "3.14"]
        assert [f"3.{item[3:]}" for item in environments() if item.startswith("py")] == versions
        assert matrix("suite")["python"] == versions
        assert PYPROJECT["project"]["requires-python"] == f">={versions[0]}"
        assert PYPROJECT["tool"]["ruff"]["target-version"] == f"py{versions[0].replace('.', '')}"
        assert tox("testenv:lowest")["base_python"] == f"python{versions[0]}"

    def test_the_lowest_versions_are_those_that_the_package_asks_for(self) -> None:
        extras = PYPROJECT["project"]["optional-dependencies"]
        asked = [
            *PYPROJECT["project"]["dependencies"],
            *extras["parquet"],
            *extras["pandas"],
            *extras["postgres"],
            *extras["mqtt"],
            *extras["xlsx"],
            *extras["tui"],
            *extras["web"],
        ]
        wanted = [re.sub(r"^([\w\[\]-]+)>=([\d.]+).*", r"\1==\2", item) for item in asked]
        tested = tox("testenv:lowest")["deps"].split()
        assert sorted(map(shortest, tested)) == sorted(map(shortest, wanted))

    def test_the_citation_is_of_this_package(self) -> None:
        citation, project = read_yaml(ROOT / "CITATION.cff"), PYPROJECT["project"]
        assert str(citation["version"]) == servomex.__version__
        assert citation["license"] == project["license"]
        assert citation["authors"] == project["authors"]
        assert citation["keywords"] == project["keywords"]

    def test_the_hooks_use_the_ruff_of_the_checks(self) -> None:
        (ruff,) = (item for item in PYPROJECT["dependency-groups"]["lint"] if item.startswith("ruff"))
        (repository,) = read_yaml(ROOT / ".pre-commit-config.yaml")["repos"]
        used = [hook["additional_dependencies"] for hook in repository["hooks"] if hook["language"] == "python"]
        assert used == [[ruff], [ruff]]


class TestWorkflows:
    def test_ci_runs_all_environments_and_systems(self) -> None:
        assert sorted(matrix("checks")["environment"]) == sorted(
            item for item in environments() if not item.startswith("py3")
        )
        names = {"POSIX :: Linux": "ubuntu", "Microsoft :: Windows": "windows", "MacOS": "macos"}
        systems = [names[item] for item in classified("Operating System") if item != "OS Independent"]
        assert sorted(matrix("suite")["system"]) == sorted(f"{item}-latest" for item in systems)

    def test_only_the_job_that_publishes_may_do_more_than_read(self) -> None:
        for path in sorted(WORKFLOWS.iterdir()):
            assert read_yaml(path)["permissions"] == {"contents": "read"}, path.name
        more = {
            (path.stem, name): job["permissions"]
            for path in sorted(WORKFLOWS.iterdir())
            for name, job in jobs(path.stem).items()
            if "permissions" in job
        }
        assert more == {("release", "publish"): {"id-token": "write"}}

    def test_every_action_is_pinned_to_a_commit(self) -> None:
        for path in sorted(WORKFLOWS.iterdir()):
            used = re.findall(r"uses: (\S+)(.*)", path.read_text(encoding="utf-8"))
            assert used, path.name
            for action, version in used:
                pinned = re.fullmatch(r"[\w/-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", action + version)
                assert pinned or action.startswith("./"), f"{path.name}: {action}"

    def test_a_run_that_is_outdated_ends_but_a_release_is_never_cut_short(self) -> None:
        rules = {path.stem: read_yaml(path)["concurrency"] for path in WORKFLOWS.iterdir()}
        cancelled = {name: rule["cancel-in-progress"] for name, rule in rules.items()}
        assert cancelled == {"ci": "${{ github.event_name == 'pull_request' }}", "release": False}

    def test_nothing_is_published_that_was_not_tested(self) -> None:
        release = jobs("release")
        assert release["tests"] == {"uses": "./.github/workflows/ci.yml"}
        assert release["publish"]["needs"] == ["tests", "build"]
        used = [str(step.get("uses")).partition("@")[0] for step in release["publish"]["steps"]]
        assert used == ["actions/download-artifact", "pypa/gh-action-pypi-publish"]
        assert release["publish"]["environment"] == "pypi"

    @pytest.mark.parametrize("path", [".ci/run", ".github/workflows/ci.yml"])
    def test_what_qt_needs_is_installed(self, path: str) -> None:
        tree = ast.parse((ROOT / "examples" / "qt_monitor.py").read_text(encoding="utf-8"))
        told = (ast.get_docstring(tree) or "").partition("packages")[2].partition(",")[0].split()
        assert "libegl1" in told
        assert f" xvfb {' '.join(told)}" in (ROOT / path).read_text(encoding="utf-8")


class TestReport:
    def test_it_asks_for_what_the_doctor_says_and_for_a_trace(self) -> None:
        asked = {item["id"]: item for item in read_yaml(TEMPLATE)["body"] if item["type"] != "markdown"}
        assert "servomex doctor PORT" in asked["doctor"]["attributes"]["label"]
        assert "--trace" in asked["trace"]["attributes"]["description"]
        assert [name for name in asked if asked[name].get("validations", {}).get("required")] == [
            "expected",
            "came",
            "doctor",
            "trace",
        ]

    def test_what_it_names_exists(self) -> None:
        text = TEMPLATE.read_text(encoding="utf-8")
        assert set(re.findall(r"--[a-z]+", text)) <= {name for item in options() for name in item.opts}
        pages = re.findall(r"docs/[\w/-]+\.rst", text)
        assert pages
        assert [page for page in pages if not (ROOT / page).is_file()] == []


def fragments() -> Iterator[Path]:
    yield from (path for path in sorted((ROOT / "changes").iterdir()) if path.name != "README.rst")


class TestText:
    def test_the_readme_is_shown_by_the_index(self) -> None:
        warnings = io.StringIO()
        page = rst.render((ROOT / PYPROJECT["project"]["readme"]).read_text(encoding="utf-8"), stream=warnings)
        assert warnings.getvalue() == ""
        assert page
        assert page.count("<h2>") >= 5

    def test_a_news_fragment_is_named_by_its_kind(self) -> None:
        kinds = [item["directory"] for item in PYPROJECT["tool"]["towncrier"]["type"]]
        told = (ROOT / "changes" / "README.rst").read_text(encoding="utf-8")
        assert re.findall(r"^\* ``(\w+)``:", told, re.MULTILINE) == kinds
        for path in fragments():
            assert re.fullmatch(rf"\+[a-z0-9-]+\.({'|'.join(kinds)})\.rst", path.name), path.name

    def test_a_news_fragment_is_plain_rest(self) -> None:
        for path in fragments():
            warnings = io.StringIO()
            text = path.read_text(encoding="utf-8")
            assert rst.render(text, stream=warnings), path.name
            assert warnings.getvalue() == "", path.name
            assert not re.search(r"`__?\b", text), f"{path.name} has a link"
