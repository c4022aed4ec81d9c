"""Deployment files: what they name is there, what they promise holds, and real programs read them where there are any.

No container engine is needed. Schemas of compose files and of Kubernetes objects come with packages of the development
set; systemd, kubectl, PostgreSQL and RabbitMQ are asked themselves.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import click
import kubernetes_validate
import pika
import pytest
import yaml
from pika.exceptions import AMQPError

from benchmarks.rabbitmq import RabbitMissing, start_rabbitmq
from bus.cli import lgsp
from bus.settings import load_settings, setting_meanings
from tests.debian import program

ROOT = Path(__file__).resolve().parent.parent
DOCKER = ROOT / "docker"
COMPOSE = sorted(DOCKER.glob("*/compose.yaml"))
GiveUp = Callable[[str], NoReturn]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
#: What an operator brings; everything else that is secret comes from docker/make_secrets.py.
BROUGHT = {"proxy.pem", "authority.pem"}


def files() -> list[Path]:
    return sorted(path for path in DOCKER.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def assert_command(words: list[str], told: str) -> None:
    """`lgsp WORDS` is a command line that the program takes."""
    command: click.Command = lgsp
    left = list(words)
    while isinstance(command, click.Group) and left and not left[0].startswith("-"):
        found = command.get_command(click.Context(command), left.pop(0))
        assert found is not None, told
        command = found
    assert not isinstance(command, click.Group) or words == ["--help"], told
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in left if word.startswith("-")} <= known, told


# ---- every file


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(DOCKER)))
def test_every_setting_that_is_named_exists(path: Path) -> None:
    known = {f"LGSP_{name.upper()}" for name in setting_meanings()}
    known |= {f"{name}_FILE" for name in known} | {"LGSP_CONFIG"}
    assert set(re.findall(r"\bLGSP_[A-Z_]*[A-Z]", path.read_text("utf-8"))) - known == set()


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(DOCKER)))
def test_no_file_holds_a_secret_or_a_moving_target(path: Path) -> None:
    text = path.read_text("utf-8")
    assert not re.search(r":latest\b|image: [\w/.-]+$", text.replace("image: lgsp-bus\n", "\n"), re.MULTILINE)
    assert "PRIVATE KEY" not in text
    assert not re.search(r"://[\w.-]+:[^@{\s\"']+@(?!\{)", re.sub(r"quote\(\w+\)", "{}", text))


@pytest.mark.parametrize("path", sorted(DOCKER.rglob("*.sh")), ids=lambda path: path.name)
def test_a_script_is_one_and_may_be_run(path: Path) -> None:
    assert subprocess.run(["sh", "-n", path], check=False).returncode == 0
    assert os.access(path, os.X_OK)


# ---- the image


def recipe() -> list[tuple[str, str]]:
    """(instruction, rest) of the Dockerfile, lines joined, comments gone."""
    text = re.sub(r"^\s*#.*\n", "", (DOCKER / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    joined = re.sub(r"\\\n\s*", " ", text)
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in joined.splitlines() if line.strip()]


def copied() -> list[str]:
    """What the recipe takes from the repository."""
    sources = [rest.split()[:-1] for word, rest in recipe() if word == "COPY" and "--from" not in rest]
    return [source for of_line in sources for source in of_line]


def test_the_image_is_small_unprivileged_and_ends_in_order() -> None:
    stages = [number for number, (word, _) in enumerate(recipe()) if word == "FROM"]
    assert len(stages) == 2
    last = dict(recipe()[stages[-1] :])
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last["USER"])
    assert last["STOPSIGNAL"] == "SIGTERM"
    assert '["lgsp", "health"]' in last["HEALTHCHECK"]
    assert (last["ENTRYPOINT"], last["CMD"]) == ('["lgsp"]', '["serve"]')
    words = [word for word, _ in recipe()]
    assert words.index("USER") > max(number for number, word in enumerate(words) if word == "RUN")
    assert "ADD" not in words
    text = " ".join(rest for _, rest in recipe())
    for unwanted in ("apt-get", "curl", "wget", "sudo", "chmod 777", "--trusted-host"):
        assert unwanted not in text
    installs = [part for _, rest in recipe() for part in rest.split("&&") if "pip install" in part]
    assert len(installs) == 3
    assert all("--require-hashes" in part or "--no-index" in part for part in installs)


def test_every_base_has_a_version() -> None:
    arguments = dict(rest.split("=", 1) for word, rest in recipe() if word == "ARG")
    for word, rest in recipe():
        if word == "FROM":
            image = re.sub(r"\$\{(\w+)\}", lambda match: arguments[match[1]], rest.split()[0])
            assert re.fullmatch(r"[\w/.-]+:\d[\w.-]+", image), image


def test_what_the_recipe_copies_is_there_and_reaches_the_builder() -> None:
    lines = (DOCKER / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {rule[1:] for rule in rules if rule.startswith("!")}
    assert set(copied()) == let_in
    assert all((ROOT / source).exists() for source in copied())
    assert not any(fnmatch.fnmatch("var/keys/ring.json", pattern) for pattern in let_in)


@pytest.mark.slow
def test_what_the_recipe_copies_is_enough_to_build_the_whole_program(tmp_path: Path) -> None:
    """Its own lines, carried out here: the wheel holds every module and every file that modules read."""
    for source in copied():
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, tmp_path / "src" / source, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (tmp_path / "src" / source).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, tmp_path / "src" / source)
    (line,) = (part for _, rest in recipe() for part in rest.split("&&") if "pip wheel" in part)
    arguments = shlex.split(line)[2:]
    arguments[arguments.index("--wheel-dir") + 1] = str(tmp_path)
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *arguments], cwd=tmp_path / "src", capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    listed = subprocess.run(["git", "ls-files", "-z", "--", *copied()], cwd=ROOT, capture_output=True, text=True)
    wanted = {name for name in listed.stdout.split("\0") if "/" in name and not name.startswith("requirements/")}
    assert len(wanted) > 300
    assert {name for name in wanted if not name.endswith(".gitignore")} - packed == set()


# ---- compose files


def composed(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    return document


def services() -> Iterator[Any]:
    for path in COMPOSE:
        for name, service in composed(path)["services"].items():
            yield pytest.param(path, name, service, id=f"{path.parent.name}-{name}")


@pytest.mark.parametrize("path", COMPOSE, ids=lambda path: path.parent.name)
def test_a_compose_file_is_one(path: Path) -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)],
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("path,name,service", list(services()))
def test_a_service_has_no_more_than_it_needs(path: Path, name: str, service: dict[str, Any]) -> None:
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode", "pid", "devices"} & service.keys()
    assert re.fullmatch(r"[\w/.-]+:v?\d[\w.-]*", service["image"])
    assert "logging" in service
    assert service["restart"] == ("no" if name in ("init", "operator") else "unless-stopped")
    if service["image"].startswith("lgsp-bus"):
        assert service["image"] == f"lgsp-bus:{VERSION}"
        assert service["read_only"]
        assert any(entry.startswith("/tmp") for entry in service["tmpfs"])  # noqa: S108  # in the container
    for published in service.get("ports", []):
        assert name == "proxy" or published.startswith("127.0.0.1:"), published
    if name.startswith(("db", "mq")):
        assert list(service["networks"]) == ["inside"]
        assert composed(path)["networks"]["inside"]["internal"]


@pytest.mark.parametrize("path,name,service", list(services()))
def test_what_a_service_names_is_there(path: Path, name: str, service: dict[str, Any]) -> None:
    whole = composed(path)
    assert set(service.get("secrets", [])) <= whole["secrets"].keys()
    assert set(service["networks"]) <= whole["networks"].keys()
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        if source.startswith("."):
            assert (path.parent / source).is_file(), source
            assert volume.endswith(":ro")
        else:
            assert source in whole["volumes"], source
    for dependency, condition in service.get("depends_on", {}).items():
        other = whole["services"][dependency]
        if condition["condition"] == "service_healthy":
            assert "healthcheck" in other or other["image"].startswith("lgsp-bus"), dependency
    if service["image"].startswith("lgsp-bus"):
        assert_command(service["command"], name)
        test = service.get("healthcheck", {}).get("test", ["CMD", "lgsp", "health"])
        assert test[:2] == ["CMD", "lgsp"]
        assert_command(test[2:], name)
    named = set(re.findall(r"/run/secrets/([\w.-]+)", yaml.safe_dump(service)))
    assert named <= set(service.get("secrets", []))


@pytest.mark.parametrize("path", COMPOSE, ids=lambda path: path.parent.name)
def test_every_secret_is_used_and_can_be_made(path: Path, tmp_path: Path) -> None:
    whole = composed(path)
    used = {name for service in whole["services"].values() for name in service.get("secrets", [])}
    assert used == whole["secrets"].keys()
    make_secrets(tmp_path / "secrets")
    made = {file.name for file in (tmp_path / "secrets").iterdir()}
    assert used <= made | BROUGHT
    assert all(secret["file"] == f"secrets/{name}" for name, secret in whole["secrets"].items())


@pytest.mark.parametrize("path", COMPOSE, ids=lambda path: path.parent.name)
def test_the_bus_takes_the_settings_that_it_is_given(path: Path, tmp_path: Path) -> None:
    brokers = re.findall(r"^  (mq\d):", path.read_text("utf-8"), re.MULTILINE)
    stores = re.findall(r"^  (db\d):$", path.read_text("utf-8"), re.MULTILINE)
    make_secrets(tmp_path / "secrets", "--broker", *brokers, "--store", *stores)
    given = {"PUBLIC_URL": "https://lgsp.test", "SYSTEM": "H99/lgsp-bus", "LOG_ORIGIN": "lgsp.test/evidence"}
    for name, service in composed(path)["services"].items():
        if service["image"].startswith("lgsp-bus") and "environment" in service:
            environ = {
                variable: re.sub(r"\$\{(\w+):\?[^}]*\}", lambda match: given[match[1]], str(value)).replace(
                    "/run/secrets", str(tmp_path / "secrets")
                )
                for variable, value in service["environment"].items()
            }
            settings = load_settings(environ=environ | {"LGSP_HOME": str(tmp_path)})
            assert [url.rpartition("@")[2] for url in settings.broker_urls] == [f"{node}:5672/lgsp" for node in brokers]
            assert settings.effective_store_url.startswith("postgresql+psycopg://lgsp:"), name
            for store in stores:
                assert f"{store}:5432" in settings.store_url


def make_secrets(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(DOCKER / "make_secrets.py"), str(folder), *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_secrets_are_made_once_and_are_the_owners(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    make_secrets(folder)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert folder.stat().st_mode & 0o777 == 0o700
    (folder / "erlang-cookie").unlink()
    assert make_secrets(folder) == "made: erlang-cookie\n"
    after = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"erlang-cookie"}
    assert make_secrets(folder) == "all were there\n"


# ---- systemd


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units as they are installed, with the program of this checkout."""
    for unit in (*(DOCKER / "systemd").glob("*.service"), DOCKER / "systemd" / "lgsp.target"):
        text = unit.read_text("utf-8").replace("/opt/lgsp/bin/lgsp", str(Path(sys.executable).with_name("lgsp")))
        (tmp_path / unit.name).write_text(text)
        if unit.suffix == ".service":
            (tmp_path / f"{unit.name}.d").mkdir()
            shutil.copy(DOCKER / "systemd" / "hardening.conf", tmp_path / f"{unit.name}.d")
    return tmp_path


def ask_systemd(units: Path, give_up: GiveUp, *arguments: str) -> str:
    analyze = program("systemd-analyze", "systemd", give_up)
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{units}:"}
    said = subprocess.run([analyze, *arguments], env=environment, capture_output=True, text=True)
    assert said.returncode == 0, said.stdout + said.stderr
    return said.stdout + said.stderr


@pytest.mark.service
def test_systemd_takes_the_units_without_a_word(units: Path, missing_service: GiveUp) -> None:
    paths = [str(units / name) for name in ("lgsp-serve.service", "lgsp-work.service", "lgsp.target")]
    assert "lgsp" not in ask_systemd(units, missing_service, "verify", "--recursive-errors=no", *paths)


@pytest.mark.service
@pytest.mark.parametrize("name", ["init", "serve", "work"])
def test_a_service_is_locked_in(units: Path, name: str, missing_service: GiveUp) -> None:
    """systemd's own judgement, 0 (nothing to reach) to 10 (everything)."""
    unit = str(units / f"lgsp-{name}.service")
    ask_systemd(units, missing_service, "security", "--offline=true", "--threshold=20", unit)


@pytest.mark.parametrize("name", ["init", "serve", "work"])
def test_a_unit_starts_a_command_that_there_is(name: str) -> None:
    text = (DOCKER / "systemd" / f"lgsp-{name}.service").read_text("utf-8")
    (line,) = re.findall(r"^ExecStart=/opt/lgsp/bin/lgsp (.*)$", text, re.MULTILINE)
    assert_command(line.split(), name)


def test_the_settings_of_the_units_are_taken(tmp_path: Path) -> None:
    lines = (DOCKER / "systemd" / "settings").read_text("utf-8").splitlines()
    environ = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    settings = load_settings(environ=environ)
    assert (settings.work_port, settings.host) == (8081, "127.0.0.1")


# ---- Kubernetes


def manifests() -> list[dict[str, Any]]:
    found = [
        document
        for path in sorted((DOCKER / "kubernetes").glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text("utf-8"))
    ]
    assert len(found) > 10
    return found


OBJECTS = manifests()


def of_kind(*kinds: str) -> list[dict[str, Any]]:
    return [each for each in OBJECTS if each["kind"] in kinds]


def pods() -> Iterator[Any]:
    for each in of_kind("Deployment", "Job"):
        yield pytest.param(each["spec"]["template"], id=each["metadata"]["name"])


@pytest.mark.parametrize("manifest", OBJECTS, ids=lambda each: f"{each['kind']}-{each['metadata']['name']}")
@pytest.mark.parametrize("version", ["1.31", "1.36"])
def test_kubernetes_knows_the_object(manifest: dict[str, Any], version: str) -> None:
    if manifest["kind"] == "ScaledObject":  # KEDA's
        assert manifest["apiVersion"] == "keda.sh/v1alpha1"
        assert manifest["spec"].keys() <= {
            "scaleTargetRef", "minReplicaCount", "maxReplicaCount", "cooldownPeriod", "triggers",
        }  # fmt: skip
        return
    kubernetes_validate.validate(manifest, version, strict=True)


def test_the_files_are_those_of_the_kustomization() -> None:
    kustomization = yaml.safe_load((DOCKER / "kustomization.yaml").read_text("utf-8"))
    files = {str(path.relative_to(DOCKER)) for path in (DOCKER / "kubernetes").glob("*.yaml")}
    assert set(kustomization["resources"]) == files
    assert kustomization["images"] == [{"name": "lgsp-bus", "newTag": VERSION}]
    (generated,) = kustomization["configMapGenerator"]
    assert all((DOCKER / name).is_file() for name in generated["files"])


def test_kubectl_renders_them() -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not here; the objects are checked one by one")
    rendered = subprocess.run([kubectl, "kustomize", str(DOCKER)], capture_output=True, text=True)
    assert rendered.returncode == 0, rendered.stderr
    documents = list(yaml.safe_load_all(rendered.stdout))
    assert len(documents) == len(OBJECTS) + 1
    assert {each["metadata"]["namespace"] for each in documents} == {"lgsp"}
    images = re.findall(r"image: (lgsp-bus\S*)", rendered.stdout)
    assert set(images) == {f"lgsp-bus:{VERSION}"}


@pytest.mark.parametrize("pod", list(pods()))
def test_a_pod_has_no_more_than_it_needs(pod: dict[str, Any]) -> None:
    spec = pod["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    for container in spec["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"]
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"].keys() == {"memory"}
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes.keys()
        for variable in container.get("env", []):
            assert "valueFrom" not in variable, "secrets are files"
        if container["image"] == "lgsp-bus":
            assert_command(container["args"], container["name"])
    assert volumes["secrets"]["secret"]["secretName"] == "lgsp-secrets"


def test_secrets_are_named_and_never_written() -> None:
    assert of_kind("Secret") == []
    named = {
        volume["secret"]["secretName"]
        for each in of_kind("Deployment", "Job")
        for volume in each["spec"]["template"]["spec"]["volumes"]
        if "secret" in volume
    }
    readme = (DOCKER / "README.md").read_text("utf-8")
    assert named == {"lgsp-secrets", "lgsp-proxy-tls"}
    assert all(f"create secret generic {name}" in readme for name in named)


@pytest.mark.parametrize("deployment", of_kind("Deployment"), ids=lambda each: each["metadata"]["name"])
def test_a_deployment_is_probed_budgeted_and_scaled(deployment: dict[str, Any]) -> None:
    name, spec = deployment["metadata"]["name"], deployment["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert "replicas" not in spec, "the scaler says how many"
    containers = spec["template"]["spec"]["containers"]
    assert all("livenessProbe" in container for container in containers)
    assert any("readinessProbe" in container for container in containers)
    budgets = [
        each
        for each in of_kind("PodDisruptionBudget")
        if each["spec"]["selector"]["matchLabels"].items() <= labels.items()
    ]
    assert len(budgets) == 1
    scalers = of_kind("HorizontalPodAutoscaler", "ScaledObject")
    assert [each["metadata"]["name"] for each in scalers if each["spec"]["scaleTargetRef"]["name"] == name] == [name]
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] > 75
    ports = {port["name"] for container in containers for port in container.get("ports", [])}
    for container in containers:
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            told = container.get(probe, {})
            if "httpGet" in told:
                assert told["httpGet"]["port"] in ports
            elif "exec" in told:
                assert_command(told["exec"]["command"][1:], name)


def test_nobody_but_its_own_proxy_speaks_to_serve() -> None:
    (serve,) = (each for each in of_kind("Deployment") if each["metadata"]["name"] == "lgsp-serve")
    bus, proxy = serve["spec"]["template"]["spec"]["containers"]
    environment = {variable["name"]: variable["value"] for variable in bus["env"]}
    assert environment == {"LGSP_HOST": "127.0.0.1", "LGSP_TRUSTED_PROXIES": "127.0.0.1"}
    assert "ports" not in bus
    assert {variable["value"] for variable in proxy["env"]} >= {"127.0.0.1:8080"}


def test_the_network_is_closed_but_for_what_is_said() -> None:
    policies = {each["metadata"]["name"]: each["spec"] for each in of_kind("NetworkPolicy")}
    assert policies["lgsp-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    open_to_all = [
        (name, port["port"])
        for name, spec in policies.items()
        for rule in spec.get("ingress", [])
        if "from" not in rule
        for port in rule["ports"]
    ]
    assert open_to_all == [("lgsp-serve", 8443)]


def test_the_workers_scale_by_a_number_that_the_bus_tells() -> None:
    (scaled,) = of_kind("ScaledObject")
    metadata = scaled["spec"]["triggers"][0]["metadata"]
    rows = re.findall(r"^\| `(lgsp_\w+)`", (ROOT / "docs" / "metrics.md").read_text("utf-8"), re.MULTILINE)
    assert set(re.findall(r"lgsp_\w+", metadata["query"])) <= set(rows)


# ---- RabbitMQ and PostgreSQL as they are configured


def test_the_hash_of_a_password_is_rabbitmqs() -> None:
    """The example of RabbitMQ's manual: password test12, salt 908DC60A."""
    made = subprocess.run(
        [
            sys.executable,
            "-c",
            "from make_secrets import password_hash; print(password_hash('test12', bytes.fromhex('908DC60A')))",
        ],
        env={**os.environ, "PYTHONPATH": ""},
        cwd=DOCKER,
        capture_output=True,
        text=True,
    )
    assert made.stdout.strip() == "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR", made.stderr


@pytest.mark.service
def test_rabbitmq_takes_its_configuration_and_the_bus_its_password(tmp_path: Path, missing_service: GiveUp) -> None:
    make_secrets(tmp_path / "secrets", "--broker", "127.0.0.1:1")
    text = (DOCKER / "rabbitmq" / "lgsp.conf").read_text("utf-8").replace("/run/secrets", str(tmp_path / "secrets"))
    own_port = re.sub(r"^(listeners|log\.console|disk_free).*\n", "", text, flags=re.MULTILINE)
    try:
        node = start_rabbitmq(tmp_path / "node", configuration=own_port)
    except RabbitMissing as reason:
        missing_service(str(reason))
    try:
        url = (tmp_path / "secrets" / "broker-url").read_text().replace("127.0.0.1:1", f"127.0.0.1:{node.port}")
        with pika.BlockingConnection(pika.URLParameters(url)) as connection:
            channel = connection.channel()
            channel.queue_declare("lgsp.deliver.G99/csdl", durable=True, arguments={"x-queue-type": "quorum"})
            channel.basic_publish("", "lgsp.deliver.G99/csdl", b"{}")
            with pytest.raises(AMQPError):
                channel.queue_declare("somebody.elses")
        for wrong in (
            url.replace("lgsp:", "lgsp:x"),
            url.replace("/lgsp", "/"),
            f"amqp://guest:guest@127.0.0.1:{node.port}/",
        ):
            with pytest.raises(AMQPError):
                pika.BlockingConnection(pika.URLParameters(wrong))
    finally:
        node.stop()
