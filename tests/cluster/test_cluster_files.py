"""The files in cluster/, checked by what Ray, AWS, Google and Kubernetes say of them; a wrong key is named."""

from __future__ import annotations

import copy
import re
import shlex
import stat
import subprocess
from fnmatch import fnmatch
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import ROOT, needs
from tests.support.cluster_schemas import google_instance_schema, kuberay_schema

CLUSTER = ROOT / "cluster"
RAY_UP = ("on_premise", "aws", "gcp")
CUSTOM = ("raycluster", "rayjob")


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((CLUSTER / name).read_text())


def as_ray_up_does(config: dict[str, Any]) -> dict[str, Any]:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return prepared


def aws_problems(node_config: dict[str, Any]) -> str:
    """What botocore would refuse to send; how many is Ray's to say."""
    from botocore.loaders import Loader
    from botocore.model import ServiceModel
    from botocore.validate import ParamValidator

    operation = ServiceModel(Loader().load_service_model("ec2", "service-2")).operation_model("RunInstances")
    request = {**node_config, "MinCount": 1, "MaxCount": 1}
    return str(ParamValidator().validate(request, operation.input_shape).generate_report())


def schema_problems(value: Any, schema: dict[str, Any]) -> list[str]:
    from jsonschema import Draft7Validator

    return [
        f"{'.'.join(map(str, error.path))}: {error.message}" for error in Draft7Validator(schema).iter_errors(value)
    ]


@pytest.fixture(scope="module")
def google_instance() -> dict[str, Any]:
    return google_instance_schema()


@pytest.fixture(scope="module")
def custom_resources() -> dict[str, dict[str, Any]]:
    folder = needs.folder_named_by("TUNER_KUBERAY", holding="the custom resource definitions of KubeRay")
    return {kind: kuberay_schema(folder, kind) for kind in ("RayCluster", "RayJob")}


@pytest.mark.parametrize("name", RAY_UP)
def test_ray_up_takes_the_file_and_knows_every_node(name) -> None:
    prepared = as_ray_up_does(read(f"{name}.yaml"))
    assert prepared["head_node_type"] in prepared["available_node_types"]
    assert prepared["max_workers"] >= 2


@pytest.mark.parametrize("name", RAY_UP)
def test_ray_names_a_wrong_key_at_the_top(name) -> None:
    with pytest.raises(Exception, match="'idle_timeout_minuts' was unexpected"):
        as_ray_up_does({**read(f"{name}.yaml"), "idle_timeout_minuts": 5})


@pytest.mark.parametrize("node_type", ["head", "gpu_spot"])
def test_aws_would_take_every_machine(node_type) -> None:
    assert aws_problems(read("aws.yaml")["available_node_types"][node_type]["node_config"]) == ""


@pytest.mark.parametrize(
    ("place", "wrong", "problem"),
    [
        ((), {"InstanceTyp": "m7i.xlarge"}, 'Unknown parameter in input: "InstanceTyp"'),
        (("InstanceMarketOptions",), {"MarketTyp": "spot"}, 'in InstanceMarketOptions: "MarketTyp"'),
        (("InstanceMarketOptions", "SpotOptions"), {"MaxPrize": "1"}, 'InstanceMarketOptions.SpotOptions: "MaxPrize"'),
        (("BlockDeviceMappings", 0, "Ebs"), {"VolumeSize": "120"}, "BlockDeviceMappings[0].Ebs.VolumeSize"),
        (("MetadataOptions",), {"HttpToken": "required"}, 'in MetadataOptions: "HttpToken"'),
    ],
)
def test_aws_names_a_wrong_key_of_a_machine_which_ray_lets_pass(place, wrong, problem) -> None:
    config = read("aws.yaml")
    machine = config["available_node_types"]["gpu_spot"]["node_config"] = copy.deepcopy(
        config["available_node_types"]["gpu_spot"]["node_config"]
    )
    at(machine, place).update(wrong)
    as_ray_up_does(config)
    assert problem in aws_problems(machine)


@pytest.mark.parametrize("node_type", ["head", "gpu_spot"])
def test_google_would_take_every_machine(node_type, google_instance) -> None:
    assert schema_problems(read("gcp.yaml")["available_node_types"][node_type]["node_config"], google_instance) == []


@pytest.mark.parametrize(
    ("place", "wrong", "problem"),
    [
        ((), {"machinType": "g2-standard-4"}, "'machinType' was unexpected"),
        (("scheduling",), {"provisioningModl": "SPOT"}, "scheduling: .*'provisioningModl' was unexpected"),
        (("scheduling",), {"provisioningModel": "CHEAP"}, "scheduling.provisioningModel: 'CHEAP' is not one of"),
        (
            ("disks", 0, "initializeParams"),
            {"diskSizeGB": 9},
            "disks.0.initializeParams: .*'diskSizeGB' was unexpected",
        ),
    ],
)
def test_google_s_schema_names_a_wrong_key_of_a_machine_which_ray_lets_pass(
    place, wrong, problem, google_instance
) -> None:
    config = read("gcp.yaml")
    machine = config["available_node_types"]["gpu_spot"]["node_config"]
    at(machine, place).update(wrong)
    as_ray_up_does(config)
    assert any(re.search(problem, text) for text in schema_problems(machine, google_instance))


@pytest.mark.parametrize("name", CUSTOM)
def test_kubernetes_would_take_the_custom_resource(name, custom_resources) -> None:
    resource = read(f"kuberay/{name}.yaml")
    assert schema_problems(resource, custom_resources[resource["kind"]]) == []


@pytest.mark.parametrize("name", CUSTOM)
@pytest.mark.parametrize(
    ("place", "wrong", "problem"),
    [
        ((), {"authOption": {}}, "'authOption' was unexpected"),
        (("authOptions",), {"mode": "tokens"}, "authOptions.mode: 'tokens' is not one of"),
        (("workerGroupSpecs", 0), {"minReplica": 0}, "workerGroupSpecs.0: .*'minReplica' was unexpected"),
        (
            ("workerGroupSpecs", 0, "template", "spec", "containers", 0),
            {"imagePullPolice": "Always"},
            "template.spec.containers.0: .*'imagePullPolice' was unexpected",
        ),
    ],
)
def test_kuberay_s_definition_names_a_wrong_key(name, place, wrong, problem, custom_resources) -> None:
    resource = copy.deepcopy(read(f"kuberay/{name}.yaml"))
    at(cluster_spec(resource), place).update(wrong)
    assert any(re.search(problem, text) for text in schema_problems(resource, custom_resources[resource["kind"]]))


def test_kubernetes_would_take_the_claim_of_the_shared_volume(custom_resources) -> None:
    pod = custom_resources["RayCluster"]["properties"]["spec"]["properties"]["headGroupSpec"]["properties"]["template"]
    volume = pod["properties"]["spec"]["properties"]["volumes"]["items"]["properties"]
    claim = volume["ephemeral"]["properties"]["volumeClaimTemplate"]["properties"]["spec"]
    storage = read("kuberay/storage.yaml")
    assert schema_problems(storage["spec"], claim) == []
    assert schema_problems({**storage["spec"], "accessMode": "all"}, claim) != []
    for name in CUSTOM:
        volumes = cluster_spec(read(f"kuberay/{name}.yaml"))["headGroupSpec"]["template"]["spec"]["volumes"]
        assert volumes[0]["persistentVolumeClaim"]["claimName"] == storage["metadata"]["name"]


@pytest.mark.parametrize("name", RAY_UP)
def test_every_node_wants_the_token_the_head_runs_no_trial_and_shows_its_dashboard_to_itself_only(name) -> None:
    config = read(f"{name}.yaml")
    (head,) = [command for command in config["head_start_ray_commands"] if "ray start" in command]
    (worker,) = [command for command in config["worker_start_ray_commands"] if "ray start" in command]
    for command in (head, worker):
        assert "RAY_AUTH_MODE=token" in command.split("ray start")[0]
    assert {"--head", "--num-cpus=0", "--num-gpus=0", "--dashboard-host=127.0.0.1"} <= set(head.split())
    assert "RAY_gcs_storage=rocksdb" in head
    assert ("pgrep -x raylet" in worker) == (name == "on_premise")  # a head that comes back must not stop its workers
    ports = [{word for word in command.split() if "port=" in word} for command in (head, worker)]
    assert ports[0] - {"--port=6379"} == ports[1]
    assert ("RAY_enable_autoscaler_v2=0" in head) == (name == "on_premise")
    assert "chmod 600 ~/.ray/auth_token" in config["setup_commands"][0]
    assert ("~/.ray/auth_token", "~/.ray/auth_token") in config["file_mounts"].items()


@pytest.mark.parametrize("name", CUSTOM)
def test_pods_want_the_token_and_the_head_runs_no_trial(name) -> None:
    spec = cluster_spec(read(f"kuberay/{name}.yaml"))
    assert spec["authOptions"] == {"mode": "token"}
    head = spec["headGroupSpec"]["rayStartParams"]
    assert (head["num-cpus"], head["num-gpus"]) == ("0", "0")
    # A job is submitted through the dashboard from another pod, with the token: it must listen on the pod's network.
    host = ip_address(head["dashboard-host"])
    assert host.is_loopback if name == "raycluster" else host.is_unspecified
    assert spec["networkPolicy"]["mode"] == "DenyAllIngress"


def test_the_ray_of_the_custom_resources_is_that_of_the_lock_file() -> None:
    locked = re.search(r"^ray==(\S+)", (CLUSTER / "requirements.lock").read_text(), re.M)
    assert locked is not None
    for name in CUSTOM:
        assert cluster_spec(read(f"kuberay/{name}.yaml"))["rayVersion"] == locked[1]


@pytest.mark.parametrize("name", RAY_UP)
def test_what_is_copied_to_a_node_is_there_and_is_enough_to_install(name) -> None:
    mounts = {
        there: here for there, here in read(f"{name}.yaml")["file_mounts"].items() if there.startswith("~/tuner/")
    }
    for there, here in mounts.items():
        assert (ROOT / here).exists() and there == f"~/tuner/{here}"
    recipe = subprocess.run(["make", "-n", "node"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    named = set(re.findall(r"[\w/]+\.lock", recipe)) | {"Makefile", "pyproject.toml", "README.md", "tuner"}
    assert named <= set(mounts.values())


def test_a_node_has_the_versions_of_the_lock_file_that_is_tested() -> None:
    tested, on_nodes = (pins(path) for path in (ROOT / "requirements.lock", CLUSTER / "requirements.lock"))
    assert {name: on_nodes[name] for name in on_nodes.keys() & tested.keys()} == {
        name: tested[name] for name in on_nodes.keys() & tested.keys()
    }
    assert {"ray", "tensorflow", "aiohttp", "boto3", "google-api-python-client", "nvidia-cudnn-cu12"} <= on_nodes.keys()
    assert "pytest" not in on_nodes


def test_the_image_copies_what_is_there_and_installs_as_make_does() -> None:
    ignored = (CLUSTER / "Dockerfile.dockerignore").read_text().splitlines()
    allowed = [line[1:] for line in ignored if line.startswith("!")]
    text = (CLUSTER / "Dockerfile").read_text().replace("\\\n", " ")
    instructions = [line.split(maxsplit=1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    assert {word for word, _ in instructions} <= {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER"}
    assert instructions[0][0] == "FROM" and instructions[-1] == ["USER", "1000"]
    for word, rest in instructions:
        for source in shlex.split(rest)[:-1] if word == "COPY" else []:
            assert (ROOT / source).exists() and any(fnmatch(source, pattern) for pattern in allowed), source
    recipe = subprocess.run(
        ["make", "-n", "--always-make", "node"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    wanted = [
        set(line.split("pip install")[1].split()) - {"--quiet"} for line in recipe.stdout.splitlines() if "pip" in line
    ]
    run = [
        set(rest.split("pip install")[1].split()) - {"--no-cache-dir"} for word, rest in instructions if "pip" in rest
    ]
    assert run == wanted and len(run) == 2


def test_the_certificates_name_every_machine_and_nobody_else_can_read_their_keys(tmp_path) -> None:
    script = tmp_path / "make_certificates"
    script.write_text((CLUSTER / "make_certificates").read_text())
    subprocess.run(["sh", script, "192.0.2.10", "worker.example.org"], check=True, capture_output=True)
    keys = [tmp_path / "tls" / "node.key", tmp_path / "tls_authority" / "ca.key"]
    assert [stat.S_IMODE(key.stat().st_mode) for key in keys] == [0o600, 0o600]
    verify = ["openssl", "verify", "-CAfile", tmp_path / "tls" / "ca.crt"]
    for name in (["-verify_ip", "192.0.2.10"], ["-verify_hostname", "worker.example.org"], ["-verify_ip", "127.0.0.1"]):
        subprocess.run([*verify, *name, tmp_path / "tls" / "node.crt"], check=True, capture_output=True)
    stranger = subprocess.run([*verify, "-verify_ip", "192.0.2.99", tmp_path / "tls" / "node.crt"], capture_output=True)
    assert stranger.returncode != 0


def at(value: Any, place: tuple[str | int, ...]) -> Any:
    for key in place:
        value = value[key]
    return value


def cluster_spec(resource: dict[str, Any]) -> dict[str, Any]:
    return resource["spec"].get("rayClusterSpec", resource["spec"])


def pins(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)==([^\s;]+)", path.read_text(), re.M))
